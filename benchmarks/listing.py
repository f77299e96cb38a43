"""How long the rows of a large collection take: listed, split by artist, written and opened.

    python -m benchmarks.listing --output DIR [--rows 10000000] [--json docs/results/listing.json]

The rows are made up, in no order, and their images are of one pixel: only rows are measured, of
which `prepare` also looks up the size of each file, and decodes it. Each source is listed in a
process of its own, and so is the store opened. `peak_bytes` is the resident memory of the whole
process, all libraries with it.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from painterjax.common import files
from painterjax.data import columns, parquet, sources, splits, store, tables
from painterjax.data.columns import pc
from painterjax.run import folder as run_folder

PER_ARTIST = 100  # On average; a few have many, and most have few.
PARTS = 10
Figures = dict[str, dict[str, float]]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and a store")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {"rows": args.rows}
    make_tables(args.output, args.rows)
    for name in SOURCES:
        figures[name] = _in_a_process(list_and_split, name, args.output)
    figures["open"] = _in_a_process(open_again, args.output)
    figures["environment"] = run_folder.environment()
    print(json.dumps(figures, indent=2))
    if args.json:
        files.write_json(args.json, figures)


def made_up(rows: int, start: int, seed: int) -> pa.Table:
    """Returns rows with artists, titles, styles, genres and dates, in the order of a shuffle."""
    rng = np.random.default_rng((seed, start))
    artists = max(2, rows // PER_ARTIST)
    artist_N = (artists * rng.random(rows) ** 3).astype(np.int64)
    number = pa.array(start + rng.permutation(rows)).cast(pa.string())
    text = pc.utf8_lpad(number, 9, "0")

    def named(kind: str, number_N: np.ndarray) -> pa.Array:
        return pc.binary_join_element_wise(kind, pa.array(number_N).cast(pa.string()), " ")

    return pa.table({
        "file": pc.binary_join_element_wise("images/", text, ".jpg", ""),
        "artist": named("Painter", artist_N),
        "title": pc.binary_join_element_wise("Landscape with", number, " "),
        "style": named("Style", rng.integers(30, size=rows)),
        "genre": named("Genre", rng.integers(10, size=rows)),
        "date": pa.array(rng.integers(1500, 2000, size=rows)).cast(pa.string()),
    })  # fmt: skip


def make_tables(folder: Path, rows: int) -> None:
    """Writes the same rows as one CSV file and as several Parquet files with images."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-rows // PARTS)
    with pyarrow.csv.CSVWriter(folder / "table.csv", made_up(1, 0, 0).schema) as writer:
        for part in range(PARTS):
            table = made_up(min(size, rows - part * size), part * size, 0)
            writer.write_table(table)
            image = pa.StructArray.from_arrays([pa.repeat(b"GIF", len(table))], ["bytes"])
            labels = table.drop_columns("file").append_column("image", image)
            pq.write_table(labels, folder / f"part-{part}.parquet")


def list_csv(folder: Path) -> sources.Source:
    """Lists the CSV file."""
    return sources.csv_table(folder / "table.csv", folder)


def list_parquet(folder: Path) -> sources.Source:
    """Lists the Parquet files."""
    return parquet.image_tables(f"{folder}/part-*.parquet", image="image", artist="artist")


SOURCES: dict[str, Callable[[Path], sources.Source]] = {"csv": list_csv, "parquet": list_parquet}


def list_and_split(name: str, folder: Path) -> Figures:
    """Lists a source, splits it and writes the rows of a store."""
    steps: Figures = {}
    source = _timed(steps, "list", lambda: SOURCES[name](folder))
    _timed(steps, "digest", lambda: columns.digest(source.paintings.table))
    rows, _ = _timed(steps, "split", lambda: splits.by_artist(
        source.paintings, test_fraction=store.TEST_FRACTION, val_fraction=store.VAL_FRACTION,
        seed=0,
    ))  # fmt: skip
    path = folder / "store"
    path.mkdir(exist_ok=True)
    _timed(steps, "write", lambda: tables.write_rows(path / tables.PARQUET, rows))
    steps["all"] = {
        "s": sum(step["s"] for step in steps.values()),
        "cpu_s": sum(step["cpu_s"] for step in steps.values()),
        "peak_bytes": max(step["peak_bytes"] for step in steps.values()),
    }
    store.write_images(path / "images.npy", [np.zeros((len(rows), 1, 1, 3), np.uint8)],
                       rows=len(rows), size=1)  # fmt: skip
    (path / "rejected.csv").write_text("file,reason\n")
    counts = {"rejected": 0, **columns.count_rows(rows)}
    store.write_info(path, {"image_size": 1, "counts": counts}, rows)
    return steps


def open_again(folder: Path) -> dict[str, float]:
    """Opens the store, as every command does that reads it."""
    steps: Figures = {}
    opened = _timed(steps, "open", lambda: store.open_store(folder / "store"))
    assert sum(map(len, opened.splits.values()))
    return steps["open"]


def _timed(steps: Figures, name: str, call: Callable[[], Any]) -> Any:
    Path("/proc/self/clear_refs").write_text("5")  # Begins the peak of the memory anew.
    start_s, start_cpu_s = time.perf_counter(), _cpu_s()
    value = call()
    steps[name] = {
        "s": time.perf_counter() - start_s,
        "cpu_s": _cpu_s() - start_cpu_s,
        "peak_bytes": _peak_bytes(),
    }
    return value


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
