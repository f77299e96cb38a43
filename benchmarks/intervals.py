"""How often an interval of a figure of triplets holds what other artists would give, by simulation.

    python -m benchmarks.intervals --json FILE [--collections 400]

Each collection has 28 artists, as many as a test of real paintings. Its paintings lie around their
artists' centers; how much artists differ in their spread is "variety". The truth is the figure
of collections of 1,000 artists. Intervals are by bootstrap over all artists of a triplet, which is
what painterjax reports, and over the anchors' artists alone.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.metrics import bootstrap, triplets
from painterjax.run import folder as run_folder

METRICS = {
    "roc_auc": triplets.roc_auc,
    "triplet_accuracy": triplets.triplet_accuracy,
    "mean_of_two_accuracy": triplets.mean_of_two_accuracy,
}
VARIETIES = (0.0, 0.5)
ARTISTS, PAINTINGS, TRIPLETS, FEATURES = 28, 20, 2_000, 8
REPLICATES = 100


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file for the results")
    parser.add_argument("--collections", type=int, default=400)
    args = parser.parse_args()
    try:
        cli.check_json(args.json)
    except InputError as error:
        parser.error(str(error))
    rows = []
    for name in METRICS:
        for variety in VARIETIES:
            held = count_held(name, variety, collections=args.collections)
            rows.append({"metric": name, "variety": variety, **held})
            print(json.dumps(rows[-1]), flush=True)
    result = {"environment": run_folder.environment(), "collections": args.collections}
    args.json.write_text(json.dumps({**result, "rows": rows}, indent=2) + "\n")


def count_held(name: str, variety: float, *, collections: int) -> dict[str, int]:
    """Returns in how many collections the interval holds the truth, by what is resampled."""
    metric, rng = METRICS[name], np.random.default_rng(0)
    truth = np.mean([metric(*simulate(rng, 1000, variety)[1]) for _ in range(20)])
    held = {"all_artists": 0, "anchors_artists": 0}
    for _ in range(collections):
        artist_Tx2, distances = simulate(rng, ARTISTS, variety)
        for key, columns in zip(held, (artist_Tx2, artist_Tx2[:, :1]), strict=True):
            drawn = {"replicates": REPLICATES, "seed": 0}
            found = bootstrap.intervals({name: metric}, columns, *distances, **drawn)[name]
            held[key] += int(found["low"] <= truth <= found["high"])
    return held


def simulate(
    rng: np.random.Generator, artists: int, variety: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the artists of anchors and negatives (T x 2), and distances of triplets (2 of T)."""
    artist_N = np.repeat(np.arange(artists), PAINTINGS)
    spread_A = rng.lognormal(0, variety, artists)
    noise_NxD = rng.normal(size=(len(artist_N), FEATURES)) * spread_A[artist_N, None]
    emb_NxD = rng.normal(size=(artists, FEATURES))[artist_N] + noise_NxD
    drawn, seed = sampling.artist_rows(artist_N), int(rng.integers(2**31))
    row_Tx3 = sampling.triplets(drawn, batch_size=TRIPLETS, seed=seed, index=0)
    anchor_T, *others = row_Tx3.T
    distances = [np.linalg.norm(emb_NxD[anchor_T] - emb_NxD[row_T], axis=1) for row_T in others]
    return artist_N[row_Tx3[:, [0, 2]]], distances


if __name__ == "__main__":
    main()
