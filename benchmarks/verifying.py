"""How long a start on a large store takes: the first on a machine, and every later one.

    python -m benchmarks.verifying --output data/verifying [--gigabytes 100] [--json FILE]

Makes a store of black images of 256 pixels, whose file has holes in the place of bytes, so that it
takes no room on the disk: reading it costs what hashing costs. What was found intact is remembered
below --output. The folder is removed at the end.
"""

import argparse
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.data import columns, store, tables, verification
from painterjax.data.catalog import Painting
from painterjax.data.columns import Paintings
from painterjax.run import folder as run_folder

SIDE = 256
PAINTINGS = 64  # of each artist


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=100)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = str(args.output.resolve() / "cache")
    path = args.output / "store"
    rows = max(int(args.gigabytes * 1e9 / (3 * SIDE**2)), PAINTINGS)
    make(path, rows)
    try:
        figures = {
            "paintings": rows,
            "bytes": (path / "images.npy").stat().st_size,
            "open": timed(lambda: store.open_store(path)),
            "first": timed(lambda: store.verify(path)),
            "later": timed(lambda: store.verify(path)),
            # Of eight processes, each of which has a record of its own share alone.
            "share_of_8": timed(lambda: store.verify(path, share=(0, 8), anew=True)),
            "environment": run_folder.environment(),
        }
    finally:
        shutil.rmtree(args.output)
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


def make(path: Path, rows: int) -> None:
    """Writes a store of black images, an hour ago."""
    path.mkdir(parents=True)
    with open(path / "images.npy", "wb") as file:
        shape = (rows, SIDE, SIDE, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + rows * 3 * SIDE**2)
    paintings = Paintings.of(
        Painting(f"{row}.jpg", f"artist {row // PAINTINGS:06}") for row in range(rows)
    )
    split = columns.name_column(["train"], np.zeros(rows, np.int32))
    listed = paintings.table.add_column(0, "split", split)
    tables.write_rows(path / tables.PARQUET, listed)
    (path / "rejected.csv").write_text("file,reason\n")
    counts = {"files": rows, "rejected": 0, **columns.count_rows(listed)}
    write_info(path, {"image_size": SIDE, "counts": counts})
    for file in path.iterdir():
        os.utime(file, (time.time() - 3600, time.time() - 3600))


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Writes dataset.json and parts.json; all parts behind the first are the same zeros."""
    size, part = (path / "images.npy").stat().st_size, verification.PART_BYTES
    with open(path / "images.npy", "rb") as file:
        first = hashlib.sha256(file.read(part)).hexdigest()
    full, last = (hashlib.sha256(bytes(n)).hexdigest() for n in (part, size % part))
    parts = [first, *[full] * (size // part - 1), *[last] * (size % part > 0 and size > part)]
    listed = {"part_bytes": part, "sha256": {"images.npy": parts} if len(parts) > 1 else {}}
    (path / verification.NAME).write_text(json.dumps(listed))
    names = [tables.PARQUET, "rejected.csv", verification.NAME]
    sha256 = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    sha256["images.npy"] = first  # With parts, that of the whole is not asked for.
    (path / "dataset.json").write_text(
        json.dumps({"format_version": store.STORE_VERSION, **info, "sha256": sha256})
    )


def timed(call: Any) -> dict[str, float]:
    """The seconds that a call takes, and those of CPU time."""
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    call()
    return {"s": time.perf_counter() - started_s, "cpu_s": time.process_time() - started_cpu_s}


if __name__ == "__main__":
    main()
