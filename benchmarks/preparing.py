"""How long `prepare folder` takes for many small images, and how much memory.

    python -m benchmarks.preparing --output DIR [--images 100000 300000]
        [--json docs/results/preparing.json]

The images are noise of 32 pixels, 100 by each artist, so that little is decoded and much is listed,
compared and written. `peak_bytes` is the resident memory of the largest of prepare's processes, all
libraries with it.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from painterjax.common import files
from painterjax.run import folder as run_folder

PER_ARTIST, SIDE = 100, 32


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for images and stores")
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for count in args.images:
        images = args.output / f"images-{count}"
        make_images(images, count)
        rows.append({"images": count, **prepare(images, args.output / f"store-{count}")})
        print(rows[-1], flush=True)
    if args.json:
        files.write_json(args.json, {"rows": rows, "environment": run_folder.environment()})


def make_images(folder: Path, count: int) -> None:
    """Writes images of noise, in one folder for each artist."""
    rng = np.random.default_rng(0)
    for first in range(0, count, PER_ARTIST):
        artist = folder / f"artist-{first // PER_ARTIST:06}"
        artist.mkdir(parents=True)
        number = min(PER_ARTIST, count - first)
        noise_NxSxSxC = rng.integers(0, 256, (number, SIDE, SIDE, 3), dtype=np.uint8)
        for i, image_SxSxC in enumerate(noise_NxSxSxC):
            Image.fromarray(image_SxSxC).save(artist / f"{i:02}.jpg", quality=50)


def prepare(images: Path, store: Path) -> dict[str, float]:
    """Prepares a store; returns the seconds, and the bytes at the peak."""
    command = [sys.executable, "-m", "painterjax.prepare", "folder", "--input", str(images)]
    command += ["--output", str(store), "--image-size", str(SIDE)]
    started_s = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"s": time.perf_counter() - started_s, "peak_bytes": 1024 * used.ru_maxrss}


if __name__ == "__main__":
    main()
