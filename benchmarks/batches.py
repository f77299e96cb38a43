"""Time and memory of a step on a batch larger than the memory: in chunks, and with remat.

    python -m benchmarks.batches [--images 8192] [--chunk 256] [--image-size 64]
        [--backbone efficientnet_lite0] [--dtype float32] [--json FILE]

A backbone, of which all trains, with the supervised contrastive loss over all images of the batch;
conv_blocks is that of the reference recipe, whose convolutions are slow in chunks on CPUs. Each row
is a process of its own: a batch of --chunk images at once, the same with blocks that are computed
anew for the gradient, and --images images in such chunks without and with that. Memory is the
device's peak or, on a CPU, the process's, with 8 random images in it for each artist.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import default
from painterjax.common import huge_pages
from painterjax.run import folder as run_folder
from painterjax.run import speed
from painterjax.training import trainer

PAINTINGS = speed.RANDOM_PAINTINGS  # of an artist in a batch
MEASURED = 3  # steps, after one


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--chunk", type=int, default=256, help="images")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--remat", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    result: dict[str, Any] = {"environment": {}, "rows": []}
    for images in (args.chunk, args.images):
        for remat in ([], ["--remat"]):
            row = start([*sys.argv[1:], f"--images={images}", *remat])
            result["environment"] = row.pop("environment")
            result["rows"].append(row)
            print(line(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def start(argv: list[str]) -> dict[str, Any]:
    """Measures a row in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batches", "--worker", *argv]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Takes steps on a batch that is on the device."""
    config = default.get_config()
    config.batch_size, config.chunk_size = args.images // PAINTINGS, args.chunk // PAINTINGS
    config.loss.name, config.loss.paintings_per_artist = "supervised_contrastive", PAINTINGS
    config.model.dtype, config.model.remat = args.dtype, args.remat
    config.model.backbone, config.model.batch_norm = args.backbone, "batch"
    config.model.head, config.model.embedding_dim = "linear", 256
    split = speed.random_split(args.image_size, artists=config.batch_size)
    training = trainer.build(config, split)
    batch, state = next(training.batches), training.state
    training.batches.close()
    times_s = []
    for _ in range(1 + MEASURED):
        started_s = time.perf_counter()
        state = jax.block_until_ready(training.run(state, batch, 1)[0])
        times_s.append(time.perf_counter() - started_s)
    step_s = float(np.median(times_s[1:]))
    return {
        "images": args.images,
        "chunk": args.chunk,
        "backbone": args.backbone,
        "remat": args.remat,
        "image_size": args.image_size,
        "dtype": args.dtype,
        "first_step_s": times_s[0],
        "step_s": step_s,
        "images_per_s": args.images / step_s,
        "memory_bytes": speed.peak_memory(),
        "environment": run_folder.environment(),
    }


def line(row: dict[str, Any]) -> str:
    """Returns a row as a line of text."""
    what = f"{row['images']} images in chunks of {row['chunk']}{' with remat' * row['remat']}"
    return (
        f"{what}: {row['step_s']:.3f} s, {row['images_per_s']:,.0f} images/s,"
        f" {row['memory_bytes'] / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    huge_pages.start_with()
    main()
