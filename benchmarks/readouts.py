"""What a fitted head may read of a frozen EfficientNet-Lite0, each readout with a line of JSON.

    python -m benchmarks.readouts --store data/choosing-128 --large data/choosing-224
        --json docs/results/readouts.jsonl [--names NAME ...]

The stores differ in the side of their images alone and lack the held-out artists, on whom results
are reported: `prepare --without-holdout --test-fraction 0 --val-fraction 0`. Figures are means over
folds of artists whom the fit does not see, at the best shrinkage and dimension.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from configs import pretrained
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.data.store import Split, Store, open_store
from painterjax.metrics import evaluator
from painterjax.model import efficientnet, embedder
from painterjax.run import folder as run_folder
from painterjax.training import lda

CROP = 128  # side in pixels
MOST = 1024  # dimensions
NEIGHBORS = 15  # of CSLS
FIGURES = ("roc_auc", "recall_at_1", "map_at_r")


@dataclasses.dataclass(frozen=True)
class Readout:
    """What is read of images, and how the embeddings are compared.

    Attributes:
      store: which of the two.
      views: of every image, from VIEWS; their features are averaged.
      stages: of the backbone.
      statistics: of the channels; 1 is the mean, 2 are mean and deviation.
      power, floor: of the ratios that scale the directions.
      most: of the dimensions.
      is_csls: whether a pair is as much farther apart as its paintings are near those of training
        (Conneau et al. 2018, https://arxiv.org/abs/1710.04087).
    """

    store: str = "store"
    views: tuple[str, ...] = ("whole",)
    stages: tuple[int, ...] = pretrained.get_config().model.stages
    statistics: int = 2
    power: float = lda.POWER
    floor: float = lda.FLOOR
    most: int = MOST
    is_csls: bool = False


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "whole": lambda image_NxSxSxC: image_NxSxSxC,
    "mirrored": lambda image_NxSxSxC: image_NxSxSxC[:, :, ::-1],
    "top_left": lambda image_NxSxSxC: image_NxSxSxC[:, :CROP, :CROP],
    "top_right": lambda image_NxSxSxC: image_NxSxSxC[:, :CROP, -CROP:],
    "bottom_left": lambda image_NxSxSxC: image_NxSxSxC[:, -CROP:, :CROP],
    "bottom_right": lambda image_NxSxSxC: image_NxSxSxC[:, -CROP:, -CROP:],
}
CROPS = ("top_left", "top_right", "bottom_left", "bottom_right")
READOUTS = {
    "base": Readout(),
    "equal_directions": Readout(power=0.0),
    "no_floor": Readout(floor=0.0),
    "of_256_numbers": Readout(most=256),
    "last_of_each_resolution": Readout(stages=(1, 2, 3, 5, 7)),
    "all_blocks": Readout(stages=(1, 2, 3, 4, 5, 6, 7)),
    "one_stage": Readout(stages=(5,)),
    "means": Readout(statistics=1),
    "mirrored": Readout(views=("whole", "mirrored")),
    "crops": Readout("large", views=CROPS),
    "large": Readout("large"),
    "large_means": Readout("large", statistics=1),
    "large_mirrored": Readout("large", views=("whole", "mirrored")),
    "large_csls": Readout("large", is_csls=True),
}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="of 128 pixels")
    parser.add_argument("--large", required=True, help="of 224 pixels")
    parser.add_argument("--names", nargs="+", choices=READOUTS, default=[*READOUTS])
    parser.add_argument("--json", type=Path, required=True, help="file to append to")
    args = parser.parse_args()
    try:
        cli.check_json(args.json)
        stores = {name: open_choosing(getattr(args, name)) for name in ("store", "large")}
    except InputError as error:
        parser.error(str(error))
    read = functools.cache(lambda store, view: read_stages(stores[store], VIEWS[view]))
    for name in args.names:
        readout = READOUTS[name]
        split = stores[readout.store].splits["train"]
        feature_NxF = features(readout, [read(readout.store, view) for view in readout.views])
        line = {"name": name, **dataclasses.asdict(readout), **judge(readout, feature_NxF, split)}
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def open_choosing(path: str) -> Store:
    """Opens a store; raises InputError where it has held-out artists."""
    store = open_store(path)
    if not store.info.get("without_holdout"):
        raise InputError(f"{path} was not prepared --without-holdout: do that")
    return store


def read_stages(store: Store, view: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Returns the channels' means and deviations of the first stage, of the second, and so on."""
    config, channels = pretrained.get_config(), [stage.channels for stage in efficientnet.STAGES]
    config.model.stages, config.model.head = tuple(range(1, len(channels) + 1)), "statistics"
    image_NxSxSxC = view(store.splits["train"].image_NxSxSxC)
    reader = embedder.feature_reader(config, image_size=image_NxSxSxC.shape[1])
    return np.split(reader.embed(image_NxSxSxC), np.cumsum(np.repeat(channels, 2))[:-1], axis=1)


def features(readout: Readout, views: list[list[np.ndarray]]) -> np.ndarray:
    """Returns what a readout takes of the stages of its views: float32 N x F."""
    numbers = [2 * (stage - 1) + k for stage in readout.stages for k in range(readout.statistics)]
    return np.mean([np.hstack([view[number] for number in numbers]) for view in views], axis=0)


def judge(readout: Readout, feature_NxF: np.ndarray, split: Split) -> dict[str, Any]:
    """Returns the figures of the best shrinkage and dimension, and what these are."""
    lda.POWER, lda.FLOOR = readout.power, readout.floor  # What `choose` and `fit` scale by.
    choice = lda.choose(feature_NxF, split.artist_N, most=readout.most)
    environment = run_folder.environment()
    figures = csls(choice, feature_NxF, split.artist_N) if readout.is_csls else choice.figures
    return {
        "features": feature_NxF.shape[1],
        "shrinkage": choice.shrinkage,
        "dim": choice.dim,
        "paintings": len(split),
        "artists": len(split.artists),
        "artists_never_seen": {key: round(figures[key], 4) for key in FIGURES},
        "environment": {key: value for key, value in environment.items() if key != "directory"},
    }


def csls(choice: lda.Choice, feature_NxF: np.ndarray, artist_N: np.ndarray) -> dict[str, float]:
    """Returns the means over the folds of lda.choose, by 2 - 2 cos(x, y) + r(x) + r(y).

    r(x) is the mean cosine between x and its nearest NEIGHBORS among the paintings of the fit. A
    dimension for each painting, whose square is r, makes it a squared distance.
    """
    folds = []
    for fold in range(lda.FOLDS):
        held_N = artist_N % lda.FOLDS == fold
        fitted = lda.fit(
            lda.scatter(feature_NxF[~held_N], artist_N[~held_N]), shrinkage=choice.shrinkage
        ).first(choice.dim)
        emb_MxD, seen_LxD = fitted(feature_NxF[held_N]), fitted(feature_NxF[~held_N])
        near_M = np.sort(emb_MxD @ seen_LxD.T, axis=1)[:, -NEIGHBORS:].mean(axis=1)
        emb_MxE = np.hstack([emb_MxD, np.diag(np.sqrt(near_M))])
        row_Tx3 = sampling.triplets(
            sampling.artist_rows(artist_N[held_N]), batch_size=lda.TRIPLETS, seed=0, index=0
        )
        folds.append(evaluator.evaluate_quickly(emb_MxE, artist_N[held_N], row_Tx3))
    return {key: float(np.mean([figures[key] for figures in folds])) for key in FIGURES}


if __name__ == "__main__":
    main()
