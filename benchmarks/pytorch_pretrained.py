"""configs/pretrained.py in PyTorch and scikit-learn, judged on the test artists of a store.

    python -m benchmarks.pytorch_pretrained --store data/paintings --json FILE

The network is the published port of EfficientNet-Lite, frozen and in channels_last. Of its stages
the same statistics are read. LinearDiscriminantAnalysis is fitted to them, with shrinkage and
dimension chosen from the same ones by the same folds of training artists.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from configs import pretrained
from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.data.store import Split, Store, open_store
from painterjax.metrics import evaluator
from painterjax.model.backbones import BACKBONES, Package
from painterjax.model.layers import EPSILON
from painterjax.training import lda

BATCH_SIZE = 64


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--seed", type=int, default=0, help="changes nothing: nothing is drawn")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    store = open_store(args.store)
    result = judge(store, pretrained.get_config())
    args.json.write_text(json.dumps(result, indent=2) + "\n")


def judge(store: Store, config: Config) -> dict[str, Any]:
    """Fits a head on the training paintings; returns its figures on the test paintings."""
    network = load(config.model.backbone, image_size=store.image_size)
    train, test = store.splits["train"], store.splits["test"]
    feature_NxF = read(network, train, config.model.stages)
    shrinkage, dim = choose(feature_NxF, train.artist_N, most=config.model.embedding_dim)
    project = fit(feature_NxF, train.artist_N, shrinkage)
    emb_NxD = unit_length(project(read(network, test, config.model.stages))[:, :dim])
    row_Tx3 = evaluator.fixed_triplets(test, count=config.eval.triplets)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "shrinkage": shrinkage,
        "dim": dim,
        "paintings": len(test),
        "artists": len(test.artists),
        **evaluator.evaluate(evaluator.compare(emb_NxD, test.artist_N), row_Tx3),
    }


def load(name: str, *, image_size: int) -> EfficientNet:
    """Returns the port with the published weights, as it is judged."""
    package = BACKBONES[name].published
    assert isinstance(package, Package)
    network: Any = EfficientNet.from_name(name.replace("_", "-"), image_size=image_size)
    network.load_state_dict(torch.load(package.path(), weights_only=True))
    return network.eval().to(memory_format=torch.channels_last)


def ends_of(network: Any, stages: tuple[int, ...]) -> list[int]:
    """Returns how many blocks there are up to and with each stage; those of one have its width."""
    widths = [block._project_conv.out_channels for block in network._blocks]
    pairs = enumerate(zip(widths, [*widths[1:], None], strict=True), start=1)
    ends = [number for number, (width, following) in pairs if width != following]
    return [ends[stage - 1] for stage in stages]


@torch.no_grad()
def read(network: Any, split: Split, stages: tuple[int, ...]) -> np.ndarray:
    """Returns mean and deviation of the channels of stages of a split's images: float32 N x F."""
    ends, parts = ends_of(network, stages), []
    for start in range(0, len(split), BATCH_SIZE):
        image_NxSxSxC = torch.from_numpy(np.array(split.image_NxSxSxC[start : start + BATCH_SIZE]))
        x_NxCxHxW = (image_NxSxSxC.permute(0, 3, 1, 2).float() - 127) / 128
        x_NxCxHxW = network._swish(network._bn0(network._conv_stem(x_NxCxHxW)))
        statistics = []
        for number, block in enumerate(network._blocks[: max(ends)], start=1):
            x_NxCxHxW = block(x_NxCxHxW)
            if number in ends:
                var_NxC, mean_NxC = torch.var_mean(x_NxCxHxW, (2, 3), correction=0)
                statistics += [mean_NxC, torch.sqrt(var_NxC + EPSILON)]
        parts.append(torch.cat(statistics, dim=1).numpy())
    return np.concatenate(parts)


def choose(feature_NxF: np.ndarray, artist_N: np.ndarray, *, most: int) -> tuple[float, int]:
    """Returns the shrinkage and the dimension that painterjax.training.lda would choose."""
    dims = sorted({min(dim, most, feature_NxF.shape[1]) for dim in lda.DIMENSIONS})
    found = dict.fromkeys(itertools.product(lda.SHRINKAGES, dims), 0.0)
    for fold in range(lda.FOLDS):
        held_N = artist_N % lda.FOLDS == fold
        held_M = artist_N[held_N]
        row_Tx3 = sampling.triplets(
            sampling.artist_rows(held_M), batch_size=lda.TRIPLETS, seed=0, index=0
        )
        for shrinkage in lda.SHRINKAGES:
            project = fit(feature_NxF[~held_N], artist_N[~held_N], shrinkage)
            emb_MxD = project(feature_NxF[held_N])
            for dim in dims:
                figures = evaluator.evaluate_quickly(unit_length(emb_MxD[:, :dim]), held_M, row_Tx3)
                found[shrinkage, dim] += figures["roc_auc"] + figures["recall_at_1"]
    return max(found, key=found.__getitem__)


def fit(
    feature_NxF: np.ndarray, artist_N: np.ndarray, shrinkage: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Fits all directions, scaled as painterjax.training.lda scales them, by their variance."""
    scaler = StandardScaler().fit(feature_NxF.astype(np.float64))
    x_NxF = scaler.transform(feature_NxF.astype(np.float64))
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage).fit(x_NxF, artist_N)
    mean_CxF = analysis.means_ @ analysis.scalings_
    between_F = np.average(mean_CxF**2, axis=0, weights=analysis.priors_)
    axis_FxF = analysis.scalings_ * (between_F + lda.FLOOR) ** lda.POWER
    _, turn_FxF = np.linalg.eigh(np.cov((x_NxF @ axis_FxF).T))
    kernel_FxF = axis_FxF @ turn_FxF[:, ::-1]
    return lambda feature_MxF: scaler.transform(feature_MxF) @ kernel_FxF


def unit_length(emb_NxD: np.ndarray) -> np.ndarray:
    """Returns embeddings of length 1."""
    return emb_NxD / np.linalg.norm(emb_NxD, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
