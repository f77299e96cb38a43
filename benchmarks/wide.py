"""Wide paintings: the embedding of the center square, or the mean of those of several squares.

    python -m benchmarks.wide --run RUN --json FILE [--ratios 2 3]

Each painting of RUN's test is cut to a band in its middle, --ratios times as wide as high. Queries
and the collection that they are compared with take the center square of a band, or the mean over
the squares that `images.to_squares` makes of it, each the one or the other.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from painterjax.data import images
from painterjax.run import folder as run_folder
from painterjax.run.load import load_run


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--ratios", type=float, nargs="+", default=[2.0, 3.0])
    args = parser.parse_args()
    run = load_run(args.run)
    split, rows = run.store.splits["test"], []
    for ratio in args.ratios:
        square_NxKxSxSxC = np.stack([squares(image, ratio) for image in split.image_NxSxSxC])
        count = square_NxKxSxSxC.shape[1]
        emb = run.embedder.embed(square_NxKxSxSxC.reshape(-1, *split.image_NxSxSxC.shape[1:]))
        emb_NxKxD = emb.reshape(len(split), count, -1)
        rows.append({"ratio": ratio, "squares": count, **judge(emb_NxKxD, split.artist_N)})
        print(json.dumps(rows[-1]), flush=True)
    what = {"paintings": len(split), "artists": len(split.artists), "pixels": run.store.image_size}
    result = {"environment": run_folder.environment(), **what, "rows": rows}
    args.json.write_text(json.dumps(result, indent=2) + "\n")


def squares(image_SxSxC: np.ndarray, ratio: float) -> np.ndarray:
    """Returns the squares of the band in an image's middle: uint8 K x S x S x 3."""
    size = len(image_SxSxC)
    height = round(size / ratio)
    top = (size - height) // 2
    band = Image.fromarray(image_SxSxC[top : top + height])
    return images.to_squares(band, size=size)


def judge(emb_NxKxD: np.ndarray, artist_N: np.ndarray) -> dict[str, Any]:
    """Returns distances of squares, and the figures of each way to embed."""
    unit_NxKxD = emb_NxKxD / np.linalg.norm(emb_NxKxD, axis=2, keepdims=True)
    mean_NxD = unit_NxKxD.mean(1)
    ways = {
        "center": unit_NxKxD[:, emb_NxKxD.shape[1] // 2],
        "mean": mean_NxD / np.linalg.norm(mean_NxD, axis=1, keepdims=True),
    }
    ends = np.linalg.norm(unit_NxKxD[:, 0] - unit_NxKxD[:, -1], axis=1)
    found = {}
    for query, among in itertools.product(ways, ways):
        cosine_NxN = ways[query] @ ways[among].T
        is_other_NxN = ~np.eye(len(artist_N), dtype=bool)
        is_same_NxN = artist_N[:, None] == artist_N[None]
        nearest_N = np.where(is_other_NxN, cosine_NxN, -np.inf).argmax(1)
        found[f"{query} among {among}"] = {
            "pair_roc_auc": float(
                roc_auc_score(is_same_NxN[is_other_NxN], cosine_NxN[is_other_NxN])
            ),
            "recall_at_1": float((artist_N[nearest_N] == artist_N).mean()),
        }
    return {"median_distance_of_ends": float(np.median(ends)), "ways": found}


if __name__ == "__main__":
    main()
