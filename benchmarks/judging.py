"""How long judging takes, and how much memory: all pairs, all rankings, and Kaggle's table.

    python -m benchmarks.judging [--paintings 22237] [--artists 349] [--dim 2048]
        [--pairs 22000000] [--json FILE]

On random embeddings of as many paintings by as many artists as the reference's test has, and a
table of random pairs of them: from embeddings to every figure with its interval, and to scores.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from painterjax import judging, runfolder, submit
from painterjax.catalog import Painting
from painterjax.store import Split
from painterjax.vectors import Vectors
from painterjax.verification import Calibration

WRITTEN_AT_ONCE = 100_000  # lines


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=int, default=22_237)
    parser.add_argument("--artists", type=int, default=349)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=22_000_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    split, emb_NxD = collection(args.paintings, args.artists, args.dim)
    row_Tx3 = judging.fixed_triplets(split, count=10_000)
    started_s = time.perf_counter()
    compared = judging.compare(emb_NxD, split.artist_N)
    judging.judge(compared, row_Tx3)
    judged_s, judged_bytes = time.perf_counter() - started_s, peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "pairs.csv"
        write_pairs(table, split, args.pairs)
        vectors = Vectors(emb_NxD, split.paintings, {})
        started_s = time.perf_counter()
        submit.write_scores(table, Path(folder) / "scores.csv", vectors, Calibration(4.0, 4.0))
        scored_s = time.perf_counter() - started_s
    figures = {
        "paintings": args.paintings,
        "artists": args.artists,
        "dim": args.dim,
        "judging": {
            "pairs": args.paintings * (args.paintings - 1) // 2,
            "minutes": judged_s / 60,
            "peak_bytes": judged_bytes,
        },
        "submit": {"pairs": args.pairs, "minutes": scored_s / 60, "peak_bytes": peak_bytes()},
        "environment": runfolder.environment(),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def collection(paintings: int, artists: int, dim: int) -> tuple[Split, np.ndarray]:
    """Returns random embeddings around their artists' centers, and a split without images."""
    rng = np.random.default_rng(0)
    artist_N = np.sort(np.arange(paintings, dtype=np.int32) % artists)
    center_AxD = rng.normal(size=(artists, dim)).astype(np.float32)
    emb_NxD = rng.normal(scale=3.0, size=(paintings, dim)).astype(np.float32)
    emb_NxD += center_AxD[artist_N]
    names = [f"artist {artist:05}" for artist in range(artists)]
    listed = [Painting(f"{row}.jpg", names[artist]) for row, artist in enumerate(artist_N)]
    nothing_NxSxSxC = np.zeros((paintings, 0, 0, 3), np.uint8)
    return Split("test", nothing_NxSxSxC, artist_N, names, listed), emb_NxD


def write_pairs(path: Path, split: Split, pairs: int) -> None:
    """Writes a table like Kaggle's submission_info.csv."""
    rng = np.random.default_rng(1)
    with open(path, "w") as file:
        file.write("index,image1,image2\n")
        for start in range(0, pairs, WRITTEN_AT_ONCE):
            count = min(WRITTEN_AT_ONCE, pairs - start)
            rows = rng.integers(len(split.paintings), size=(count, 2)).tolist()
            file.write("".join(f"{start + i},{a}.jpg,{b}.jpg\n" for i, (a, b) in enumerate(rows)))


def peak_bytes() -> int:
    """The process's peak memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
