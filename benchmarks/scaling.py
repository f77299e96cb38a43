"""How training scales over processes of one machine: each with a GPU or, without any, on the CPU.

    python -m benchmarks.scaling [--processes 1 2 4] [--image-size 64] [--batch-size 8]
        [--dtype float32] [--json FILE]

Every process has the reference recipe's network and --batch-size triplets of random images, so the
batch grows with the processes. A row has the bytes of the gradients, which an all-reduce sends each
step; the time of such an all-reduce by itself; the time of a step, and with how many images a
second that is; and that rate over the processes times the first row's. Without GPUs the processes
share the CPU's cores, and talk through Gloo: what is lost to each other's work is lost too.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from painterjax.distributed import compilation, processes, sharding
from painterjax.run import folder as run_folder
from painterjax.run import speed
from painterjax.training import trainer

LOCAL = Path(__file__).parents[1] / "launch" / "local.sh"
WARM_UP, MEASURED = 3, 15


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", help="1 2 4, and 8 with as many GPUs")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8, help="triplets of each process")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # At once, also within XLA.
        work(args.image_size, args.batch_size, args.dtype)
        return
    gpus = count_gpus()
    counts = args.processes or [n for n in (1, 2, 4, 8) if n <= (gpus or 4)]
    rows = []
    for count in counts:
        row = start(count, sys.argv[1:], gpus=gpus)
        first = rows[0] if rows else row
        each = first["images_per_s"] / first["processes"]
        rows.append({**row, "efficiency": row["images_per_s"] / (count * each)})
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


def count_gpus() -> int:
    """How many NVIDIA GPUs there are; not by JAX, which would take their memory."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def start(count: int, argv: list[str], *, gpus: int) -> dict[str, Any]:
    """Runs `count` processes together, and returns what the first one measured."""
    worker = [sys.executable, "-m", "benchmarks.scaling", "--worker", *argv]
    own = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(count)))} if gpus else {}
    with subprocess.Popen(
        [LOCAL, str(count), *worker], env={**os.environ, **own}, stdout=subprocess.PIPE, text=True
    ) as launched:
        try:
            output, _ = launched.communicate()
        finally:
            launched.wait()  # At Ctrl-C it ends its processes first.
    if launched.returncode:
        sys.exit(launched.returncode)
    return json.loads(output.splitlines()[-1].removeprefix("[0] "))


def work(image_size: int, batch_size: int, dtype: str) -> None:
    """A process: measures with the others, and prints a row where it is the first."""
    processes.join()
    config = default.get_config()
    config.batch_size, config.model.dtype = batch_size * jax.device_count(), dtype
    config.data.residency = "device"
    training = trainer.build(config, speed.random_split(image_size))
    batch, state = next(training.batches), training.state
    training.batches.close()
    gradient_bytes = sum(x.nbytes for x in jax.tree.leaves((state.params, state.proxies)))

    def step() -> Any:
        nonlocal state
        state, _ = training.run(state, batch, 1)
        return state

    row = {
        "processes": jax.process_count(),
        "gradient_bytes": gradient_bytes,
        "all_reduce_ms": _spread(all_reduce(training.mesh, gradient_bytes)),
        "step_ms": (step_ms := _spread(step)),
        "images_per_step": training.images_per_step,
        "images_per_s": 1000 * training.images_per_step / step_ms["median"],
        "image_size": image_size,
        "dtype": dtype,
        "environment": run_folder.environment(),
    }
    if processes.is_writer():
        print(json.dumps(row), flush=True)
    processes.wait_for_all()


def all_reduce(devices: jax.sharding.Mesh, size: int) -> Callable[[], jax.Array]:
    """Returns what sums an array of `size` bytes over all devices."""
    local = np.ones((jax.local_device_count(), size // 4), np.float32)
    x_PxM = jax.make_array_from_process_local_data(sharding.split_along(devices, 0), local)
    total = compilation.jit(
        lambda x_PxM: jnp.sum(x_PxM, axis=0), out_shardings=sharding.replicated(devices)
    )
    return lambda: total(x_PxM)


def _spread(call: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of a call, until the devices are done."""
    times_ms = []
    for _ in range(WARM_UP + MEASURED):
        started_s = time.perf_counter()
        jax.block_until_ready(call())
        times_ms.append(1000 * (time.perf_counter() - started_s))
    p10, median, p90 = np.percentile(times_ms[WARM_UP:], (10, 50, 90)).tolist()
    return {"median": median, "p10": p10, "p90": p90}


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as lines of text."""
    kind = rows[0]["environment"]["device"]["kind"]
    lines = [
        f"{rows[0]['gradient_bytes'] / 1e6:.1f} MB of gradients a step, on {kind}",
        f"{'processes':>10}{'all-reduce ms':>15}{'step ms':>10}{'images/s':>10}{'efficiency':>12}",
    ]
    lines += [
        f"{row['processes']:10}{row['all_reduce_ms']['median']:15.1f}"
        f"{row['step_ms']['median']:10.1f}{row['images_per_s']:10.0f}{row['efficiency']:12.2f}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
