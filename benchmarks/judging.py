"""How long judging takes, and how much memory: all pairs, all rankings, and Kaggle's table.

    python -m benchmarks.judging [--paintings 22237] [--artists 349] [--dim 2048]
        [--pairs 22000000] [--pair-images 23817] [--largest 200000] [--largest-dim 64] [--json FILE]

On random embeddings of as many paintings by as many artists as the reference's test has, and a
table of random pairs of as many images as Kaggle's has: from embeddings to every figure with its
interval, once and together with the two floors and the groups that `painterjax.evaluate` judges as
well; and to scores, whose lines are then checked: each one's index, and a sample's score against
what is computed directly. Then of `--largest` paintings, of half and of a quarter of them, of which
a sample is compared with all; the figures of the largest are compared with those of all pairs.
"""

import argparse
import json
import math
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.data.catalog import Painting
from painterjax.data.store import Split
from painterjax.metrics import breakdown, evaluator
from painterjax.metrics.calibration import Calibration
from painterjax.run import folder as run_folder
from painterjax.run import submission
from painterjax.run.embeddings import Vectors
from painterjax.run.evaluation import Judging

WRITTEN_AT_ONCE = 100_000  # lines
CHECKED = 10_000  # scores
FIRST_INDEX = 7  # So that an index is not the number of its line.
HISTOGRAM_DIM = 512


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=int, default=22_237)
    parser.add_argument("--artists", type=int, default=349)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=22_000_000)
    parser.add_argument("--pair-images", type=int, default=23_817)
    parser.add_argument("--largest", type=int, default=200_000)
    parser.add_argument("--largest-dim", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    split, emb_NxD = collection(args.paintings, args.artists, args.dim)
    judged = [judge(split, emb_NxD)]
    judged_bytes = peak_bytes()
    # As `evaluate` does: the untrained network and the color histogram as well, and groups.
    with_floors = [judge(split, emb_NxD, with_groups=True)]
    with_floors += [judge(split, emb_NxD), judge(split, emb_NxD[:, :HISTOGRAM_DIM])]
    all_bytes = peak_bytes()
    scored = submitted(args.pairs, args.pair_images, args.dim)
    figures = {
        "paintings": args.paintings,
        "artists": args.artists,
        "dim": args.dim,
        "judging": {
            "pairs": args.paintings * (args.paintings - 1) // 2,
            **total(judged),
            "peak_bytes": judged_bytes,
        },
        "judging_with_floors": {
            "dims": [args.dim, args.dim, HISTOGRAM_DIM],
            **total(with_floors),
            "peak_bytes": all_bytes,
        },
        "submit": scored,
        "sampled": sampled(args),
        "environment": run_folder.environment(),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def judge(
    split: Split, emb_NxD: np.ndarray, *, with_groups: bool = False, most: int | None = None
) -> dict[str, Any]:
    """Judges embeddings; returns the figures and the seconds that it took."""
    row_Tx3 = evaluator.fixed_triplets(split, count=10_000)
    started_s, started_cpu_s = time.perf_counter(), cpu_s()
    compared = evaluator.compare(emb_NxD, split.artist_N, most=most)
    figures = evaluator.evaluate(compared, row_Tx3)
    if with_groups:
        breakdown.by_group(compared, split)
    passed_s, passed_cpu_s = time.perf_counter() - started_s, cpu_s() - started_cpu_s
    judged = len(compared.query_Q)
    return {"figures": figures, "judged": judged, "s": passed_s, "cpu_s": passed_cpu_s}


def total(judged: list[dict[str, Any]]) -> dict[str, float]:
    """The minutes and the seconds of CPU time that some judgments took together."""
    return {
        "minutes": sum(each["s"] for each in judged) / 60,
        "cpu_s": sum(each["cpu_s"] for each in judged),
    }


def sampled(args: argparse.Namespace) -> dict[str, Any]:
    """Judges a sample of ever more paintings; of the most, all as well."""
    rows, most = [], Judging().max_paintings
    for paintings in (args.largest // 4, args.largest // 2, args.largest):
        artists = max(args.artists * paintings // args.paintings, 3)
        split, emb_NxD = collection(paintings, artists, args.largest_dim)
        found = judge(split, emb_NxD, with_groups=True, most=most)
        row = {"paintings": paintings, "judged": found["judged"], **total([found])}
        rows.append({**row, "peak_bytes": peak_bytes(), **values(found)})
    exact = judge(split, emb_NxD)
    return {
        "dim": args.largest_dim,
        "rows": rows,
        "all_pairs": {**total([exact]), "peak_bytes": peak_bytes(), **values(exact)},
    }


def values(judged: dict[str, Any]) -> dict[str, Any]:
    """Two figures of a judgment, each with its interval."""
    return {name: judged["figures"][name] for name in ("pair_roc_auc", "recall_at_1")}


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


def submitted(pairs: int, images: int, dim: int) -> dict[str, Any]:
    """Scores random pairs of random embeddings, and checks the scores."""
    emb_NxD = np.random.default_rng(0).normal(size=(images, dim)).astype(np.float32)
    # Around distances of sqrt(2 dim), so that probabilities are neither 0 nor 1.
    calibration = Calibration(2 * math.sqrt(2 * dim), 2.0)
    listed = [Painting(f"test/{row}.jpg", "") for row in range(images)]
    with tempfile.TemporaryDirectory() as folder:
        table, output = Path(folder) / "pairs.csv", Path(folder) / "scores.csv"
        write_pairs(table, images, pairs)
        started_s = time.perf_counter()
        names = submission.image_names(table)
        submission.write_scores(table, output, Vectors(emb_NxD, listed, {}), calibration)
        minutes, memory_bytes = (time.perf_counter() - started_s) / 60, peak_bytes()
        checked = check_scores(table, output, emb_NxD, calibration, pairs)
    return {
        "pairs": pairs, "images": len(names), "minutes": minutes, "peak_bytes": memory_bytes,
        "checked": checked,
    }  # fmt: skip


def write_pairs(path: Path, images: int, pairs: int) -> None:
    """Writes a table like Kaggle's submission_info.csv."""
    rng = np.random.default_rng(1)
    with open(path, "w") as file:
        file.write("index,image1,image2\n")
        for start in range(0, pairs, WRITTEN_AT_ONCE):
            count = min(WRITTEN_AT_ONCE, pairs - start)
            rows = rng.integers(images, size=(count, 2)).tolist()
            first = FIRST_INDEX + start
            file.write("".join(f"{first + i},{a}.jpg,{b}.jpg\n" for i, (a, b) in enumerate(rows)))


def check_scores(
    table: Path, output: Path, emb_NxD: np.ndarray, calibration: Calibration, pairs: int
) -> dict[str, Any]:
    """Compares every line's index with its pair's, and a sample of scores with a pair at a time.

    Raises:
      AssertionError: a line is missing, too many, out of order, or its score is another.
    """
    sample = set(np.random.default_rng(2).integers(pairs, size=CHECKED).tolist())
    sample |= {0, pairs - 1}
    worst, lines = 0.0, 0
    with open(table) as asked, open(output) as answered:
        assert (next(asked), next(answered)) == ("index,image1,image2\n", "index,sameArtist\n")
        for lines, (pair, answer) in enumerate(zip(asked, answered, strict=True), start=1):
            index, *names = pair.rstrip().split(",")
            answer_index, score = answer.rstrip().split(",")
            assert answer_index == index, f"line {lines}: {answer_index}, not {index}"
            if lines - 1 in sample:
                first_D, second_D = (emb_NxD[int(name[:-4])].astype(float) for name in names)
                expected = calibration.probability(np.linalg.norm(first_D - second_D))
                worst = max(worst, abs(float(score) - float(expected)))
    assert lines == pairs, f"{lines} lines, not {pairs}"
    assert worst < 1e-4, f"a score is off by {worst}"
    return {"lines": lines, "scores": len(sample), "most_off": worst}


def cpu_s() -> float:
    """The process's seconds of CPU time, of all cores."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes() -> int:
    """The process's peak memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
