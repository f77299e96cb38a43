"""Measures how fast a recipe trains here, stage by stage.

    python -m painterjax.benchmark --config configs/NAME.py [--image-size S] [--json FILE]
        [--profile DIR] [--config.key=value ...]

Example:

    python -m painterjax.benchmark --config configs/quickstart.py --image-size 64

prints a table. --image-size measures on random images of S pixels instead of the recipe's store;
--json writes the figures as well; --profile writes a trace for TensorBoard or Perfetto.
"""

import contextlib
import copy
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax import (
    catalog,
    checks,
    cli,
    compilation,
    files,
    pipeline,
    prepare,
    runfolder,
    sampling,
    wiring,
)
from painterjax.checkpoint import Checkpoints
from painterjax.errors import InputError
from painterjax.step import TrainState
from painterjax.store import Split, open_store

WARM_UP, MEASURED = 5, 30  # dispatches
BUFFERED = 32  # more batches than the pipeline keeps ready; they came while nobody asked
PROFILED = 5
RANDOM_ARTISTS, RANDOM_PAINTINGS = 128, 8  # of the random images
# Peak FLOP/s without sparsity, by NVIDIA's data sheets. In float32 XLA multiplies as TF32.
PEAK_FLOP_PER_S = {
    "A100": {"float32": 156e12, "bfloat16": 312e12},
    "H100": {"float32": 495e12, "bfloat16": 989e12},
    "H200": {"float32": 495e12, "bfloat16": 989e12},
}
Figures = dict[str, Any]


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.benchmark`."""
    optional = {
        "image-size": "measure on random images of this size",
        "json": "write the figures here as well",
        "profile": "write a trace to this folder",
    }
    config: runfolder.Config
    config, given = cli.config_and_options(argv, doc=__doc__ or "", required={}, optional=optional)
    checks.check_keys(config)
    size, profile = given["image-size"], given["profile"]
    path = Path(given["json"]) if given["json"] else None
    cli.check_json(path)
    if profile:
        _make_folder(profile)
    split = _random_split(size) if size else open_store(config.data.store).splits["train"]
    figures = measure(config, split, profile=profile)
    print(table(figures))
    if path:
        files.write_json(path, figures)


def _make_folder(profile: str) -> None:
    """Makes the folder of --profile, now rather than when all is measured."""
    try:
        Path(profile).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--profile is {profile!r}: no folder ({error.strerror})") from error


def _random_split(size: str) -> Split:
    """The random images that --image-size asks for."""
    if size not in map(str, range(1, prepare.MAX_IMAGE_SIZE + 1)):
        limits = f"1 to {prepare.MAX_IMAGE_SIZE}"
        raise InputError(f"--image-size is {size!r}: must be a whole number of pixels, {limits}")
    try:
        return random_split(int(size))
    except MemoryError as error:
        raise InputError(f"--image-size is {size}: too much for memory, lower it") from error


def random_split(image_size: int) -> Split:
    """Returns 1,024 images of random pixels by 128 artists; how fast is all they can tell."""
    artist_N = np.repeat(np.arange(RANDOM_ARTISTS, dtype=np.int32), RANDOM_PAINTINGS)
    shape = (len(artist_N), image_size, image_size, 3)
    image_NxSxSxC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    artists = [f"artist {i:03}" for i in range(RANDOM_ARTISTS)]
    paintings = [catalog.Painting(f"{i}", artists[artist]) for i, artist in enumerate(artist_N)]
    return Split("train", image_NxSxSxC, artist_N, artists, paintings)


def measure(config: runfolder.Config, split: Split, *, profile: str | None = None) -> Figures:
    """Measures each stage by itself, then the whole loop; times are of one step.

    Returns:
      Nested figures: `step`, `sampling`, `pipeline` and `loop` with `ms` {median, p10, p90, mean}
      and the rates of the mean, `compile_s`, `cached_compile_s`, `dispatch_ms`,
      `checkpoint_hold_ms`, `flop`, `memory_bytes` and where all of it ran.
    """
    checks.check(config, image_size=split.image_NxSxSxC.shape[1])
    config = copy.deepcopy(config)
    config.num_epochs = 1_000_000  # The stream of batches must not end.
    print("benchmark: compiling", file=sys.stderr)
    training = wiring.training(config, split)
    with contextlib.closing(training.batches), wiring.full_memory_explained():
        first = next(training.batches)
        compile_s, cached_compile_s, compiled = _compile(training, first)
        print("benchmark: measuring", file=sys.stderr)
        state, step, dispatch_ms = _time_step(training, first)
        sampled, piped = _time_sampling(training), _time_pipeline(training)
        state, loop = _time_loop(training, state, profile)
        hold_ms = _time_checkpoint(training, state)
    sizes = training.images_per_step, config.batch_size
    return {
        "compile_s": compile_s,
        "cached_compile_s": cached_compile_s,
        "step": _with_rates(step, *sizes),
        "dispatch_ms": dispatch_ms,
        "sampling": _with_rates(sampled, *sizes),
        "pipeline": _with_rates(piped, *sizes),
        "loop": {**_with_rates(loop["ms"], *sizes), "data_wait_ms": loop["data_wait_ms"]},
        "checkpoint_hold_ms": hold_ms,
        "flop": _flop(config, training, split.image_NxSxSxC.shape[1], compiled, step["mean"]),
        "memory_bytes": _peak_memory(),
        "batch_size": config.batch_size,
        "images_per_step": training.images_per_step,
        "image_size": config.augmentation.crop or split.image_NxSxSxC.shape[1],
        "dtype": config.model.dtype,
        "resident": training.image_NxSxSxC is not None,
        "environment": runfolder.environment(),
    }


def forward_flop(config: runfolder.Config, *, image_size: int) -> tuple[int, int]:
    """Counts the FLOP of one image's forward pass, two a multiply-add: all, and the first layer's.

    Only convolutions and the linear layer count: all else is memory traffic.
    """
    side, channels, flop = image_size, 3, []
    for width, depth in zip(config.model.widths, config.model.depths, strict=True):
        for _ in range(depth):
            flop.append(2 * 9 * channels * width * side**2)
            channels = width
        side //= 2
    features = side**2 * channels if config.model.head == "dense" else 2 * sum(config.model.widths)
    return sum(flop) + 2 * features * config.model.embedding_dim, flop[0]


def table(figures: Figures) -> str:
    """Returns figures as lines of text."""
    environment, flop = figures["environment"], figures["flop"]
    lines = [
        f"{figures['images_per_step']} images of {figures['image_size']} pixels a step,"
        f" {figures['dtype']}, on {environment['device']['kind']},"
        f" jax {environment['packages']['jax']}, Python {environment['python']}",
        f"  {'':12}{'median ms':>12}{'10 %':>12}{'90 %':>12}{'images/s':>14}{'tuples/s':>14}",
    ]
    for stage in ("step", "sampling", "pipeline", "loop"):
        ms = figures[stage]["ms"]
        times = "".join(f"{ms[key]:12.3f}" for key in ("median", "p10", "p90"))
        rates = f"{figures[stage]['images_per_s']:14,.0f}{figures[stage]['tuples_per_s']:14,.0f}"
        lines.append(f"  {stage:12}{times}{rates}")
    wait = figures["loop"]["data_wait_ms"]
    peak = "unknown" if flop["of_peak"] is None else f"{100 * flop['of_peak']:.1f} %"
    lines += [
        f"  compilation {figures['compile_s']:.1f} s, at a second start"
        f" {figures['cached_compile_s']:.1f} s, dispatch {figures['dispatch_ms']:.2f} ms a"
        f" step, wait for data {wait:.3f} ms ({100 * wait / figures['loop']['ms']['median']:.2f} %"
        f" of a step), a checkpoint holds the loop for {figures['checkpoint_hold_ms']:.0f} ms",
        f"  {flop['counted_per_image'] / 1e9:.2f} GFLOP an image counted,"
        f" {flop['compiler_per_image'] / 1e9:.2f} by the compiler;"
        f" {flop['per_s'] / 1e9:,.0f} GFLOP/s, of the device's peak: {peak};"
        f" peak memory {figures['memory_bytes'] / 1e9:.2f} GB",
    ]
    return "\n".join(lines)


def _compile(training: wiring.Training, batch: pipeline.Batch) -> tuple[float, float, Any]:
    """Seconds to trace and compile the step, without and with a filled cache; and what came out."""
    step: Any = training.step
    arguments = training.arguments(training.state, batch, len(training.plan.steps(0)))
    with tempfile.TemporaryDirectory() as folder, compilation.kept_in(folder):
        first_s, _ = _time_compilation(step, arguments)
        second_s, compiled = _time_compilation(step, arguments)
    return first_s, second_s, compiled


def _time_compilation(step: Any, arguments: tuple[Any, ...]) -> tuple[float, Any]:
    jax.clear_caches()  # Those in memory.
    started_s = time.perf_counter()
    compiled = step.lower(*arguments).compile()
    return time.perf_counter() - started_s, compiled


def _time_step(
    training: wiring.Training, batch: pipeline.Batch
) -> tuple[TrainState, dict[str, float], float]:
    """The step on a batch that is there already; and how long Python takes to order it."""
    count, state = len(training.plan.steps(0)), training.state
    ordered_ms, done_ms = [], []
    for _ in range(WARM_UP + MEASURED):
        started_s = time.perf_counter()
        state, _ = training.run(state, batch, count)
        ordered_ms.append(_passed_ms(started_s) / count)
        jax.block_until_ready(state)
        done_ms.append(_passed_ms(started_s) / count)
    return state, _spread(done_ms[WARM_UP:]), float(np.median(ordered_ms[WARM_UP:]))


def _time_sampling(training: wiring.Training) -> dict[str, float]:
    source = training.source
    artists = sampling.artist_rows(source.split.artist_N)
    return _spread(
        _time_each(lambda i: source.rows(artists, i), steps=training.plan.steps_per_dispatch)
    )


def _time_pipeline(training: wiring.Training) -> dict[str, float]:
    """Batches to the device as fast as they come, with nothing else to do."""
    for _ in range(BUFFERED):
        next(training.batches)
    return _spread(
        _time_each(
            lambda _: jax.block_until_ready(next(training.batches)),
            steps=training.plan.steps_per_dispatch,
        )
    )


def _time_each(call: Callable[[int], Any], *, steps: int) -> list[float]:
    times_ms = []
    for i in range(WARM_UP + MEASURED):
        started_s = time.perf_counter()
        call(i)
        times_ms.append(_passed_ms(started_s) / steps)
    return times_ms[WARM_UP:]


def _time_loop(
    training: wiring.Training, state: TrainState, profile: str | None
) -> tuple[TrainState, Figures]:
    """Training's dispatches; the scalars of one are read when the next is on its way."""
    times_ms, waits_ms, before = [], [], None
    read_s = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for i, (steps, following, scalars, wait_s) in enumerate(training.drive(state, after=0)):
            state = following
            if before is not None:
                jax.device_get(before)
            before = scalars
            times_ms.append(_passed_ms(read_s) / len(steps))
            waits_ms.append(1000 * wait_s / len(steps))
            read_s = time.perf_counter()
            if i == WARM_UP + MEASURED - 1:
                if profile is None:
                    break
                stack.enter_context(jax.profiler.trace(profile, create_perfetto_trace=True))
            if i == WARM_UP + MEASURED + PROFILED - 1:
                break
        jax.block_until_ready(state)
    measured = slice(WARM_UP, WARM_UP + MEASURED)
    return state, {
        "ms": _spread(times_ms[measured]),
        "data_wait_ms": float(np.mean(waits_ms[measured])),
    }


def _time_checkpoint(training: wiring.Training, state: TrainState) -> float:
    """How long a save keeps the loop from its next step; the rest is done in the background."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        with contextlib.closing(checkpoints):
            times_ms = []
            for step in (1, 2, 3):
                checkpoints.wait()
                started_s = time.perf_counter()
                checkpoints.save(state, training.batches, step=step, roc_auc=None, window=[])
                times_ms.append(_passed_ms(started_s))
    return float(np.median(times_ms))


def _flop(
    config: runfolder.Config, training: wiring.Training, image_size: int, compiled: Any, ms: float
) -> Figures:
    forward, first = forward_flop(config, image_size=config.augmentation.crop or image_size)
    # Backward are an input gradient and a weight gradient for each layer, but no pixel's gradient.
    counted = 3 * forward - first
    analysis = compiled.cost_analysis()  # Of one device.
    images, count = training.images_per_step, len(training.plan.steps(0))
    devices = training.mesh.size
    per_s = counted * images / (ms / 1000)
    kind = jax.devices()[0].device_kind
    peaks = next((peak for name, peak in PEAK_FLOP_PER_S.items() if name in kind), {})
    peak = peaks.get(config.model.dtype)
    return {
        "counted_per_image": counted,
        "compiler_per_image": devices * analysis["flops"] / (images * count),
        "per_s": per_s,
        "of_peak": None if peak is None else per_s / (devices * peak),
    }


def _peak_memory() -> int:
    """The device's, or on a CPU the process's."""
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["peak_bytes_in_use"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _with_rates(ms: dict[str, float], images: int, tuples: int) -> Figures:
    per_s = 1000 / ms["mean"]
    return {"ms": ms, "images_per_s": images * per_s, "tuples_per_s": tuples * per_s}


def _spread(times_ms: list[float]) -> dict[str, float]:
    p10, median, p90 = np.percentile(times_ms, (10, 50, 90)).tolist()
    return {"median": median, "p10": p10, "p90": p90, "mean": float(np.mean(times_ms))}


def _passed_ms(since_s: float) -> float:
    return 1000 * (time.perf_counter() - since_s)


if __name__ == "__main__":
    cli.run(main, "benchmark")
