"""How fast a recipe trains on this machine, stage by stage."""

import contextlib
import copy
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax.common.config import Config
from painterjax.common.memory import full_memory_explained
from painterjax.data import catalog, pipeline, sampling
from painterjax.data.store import Split
from painterjax.distributed import compilation
from painterjax.model.embedder import feature_reader
from painterjax.model.heads import HEADS
from painterjax.model.trainable import keeps_backbone
from painterjax.run import config_checks
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.training import trainer
from painterjax.training.step import TrainState

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


def random_split(image_size: int, *, artists: int = RANDOM_ARTISTS) -> Split:
    """Returns 8 images of random pixels by each artist; how fast is all they can tell."""
    artist_N = np.repeat(np.arange(artists, dtype=np.int32), RANDOM_PAINTINGS)
    shape = (len(artist_N), image_size, image_size, 3)
    image_NxSxSxC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    names = [f"artist {i:03}" for i in range(artists)]
    paintings = [catalog.Painting(f"{i}", names[artist]) for i, artist in enumerate(artist_N)]
    return Split("train", image_NxSxSxC, artist_N, names, paintings)


def measure(config: Config, split: Split, *, profile: str | None = None) -> Figures:
    """Measures each stage by itself, then the whole loop; times are of one step.

    Returns:
      Nested figures: `step`, `sampling`, `pipeline` and `loop` with `ms` {median, p10, p90, mean}
      and the rates of the mean, `compile_s`, `cached_compile_s`, `dispatch_ms`,
      `checkpoint_hold_ms`, `flop`, `memory_bytes` and where all of it ran. Of a frozen backbone's
      head the "images" are their features, which are read before.
    """
    config_checks.check(config, image_size=split.image_NxSxSxC.shape[1])
    if keeps_backbone(config) and split.feature_NxF is None:  # Training takes features then.
        reader = feature_reader(config, image_size=split.image_NxSxSxC.shape[1])
        split = dataclasses.replace(split, feature_NxF=reader.embed(split.image_NxSxSxC))
    config = copy.deepcopy(config)
    config.num_epochs = 1_000_000  # The stream of batches must not end.
    print("benchmark: compiling", file=sys.stderr)
    training = trainer.build(config, split)
    with contextlib.closing(training.batches), full_memory_explained():
        first = next(training.batches)
        compile_s, cached_compile_s, compiled = _compile(training, first)
        print("benchmark: measuring", file=sys.stderr)
        state, step, dispatch_ms = _time_step(training, first)
        sampled, piped = _time_sampling(training), _time_pipeline(training)
        state, loop = _time_loop(training, state, profile)
        hold_ms = _time_checkpoint(training, state)
    sizes = training.images_per_step, training.source.batch_size
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
        "memory_bytes": peak_memory(),
        "batch_size": training.source.batch_size,
        "images_per_step": training.images_per_step,
        "image_size": config.augmentation.crop or split.image_NxSxSxC.shape[1],
        "dtype": config.model.dtype,
        "resident": training.constants.image_NxSxSxC is not None,
        "environment": run_folder.environment(),
    }


def forward_flop(config: Config, *, image_size: int) -> tuple[int, int]:
    """Counts the FLOP of one image's forward pass through conv_blocks: all, and the first layer's.

    A multiply-add is two. Only convolutions and the linear layer count: all else is memory traffic.
    """
    side, channels, flop = image_size, 3, []
    for width, depth in zip(config.model.widths, config.model.depths, strict=True):
        for _ in range(depth):
            flop.append(2 * 9 * channels * width * side**2)
            channels = width
        side //= 2
    features = HEADS[config.model.head].features(image_size, config.model.widths)
    return sum(flop) + 2 * features * config.model.embedding_dim, flop[0]


def _compile(training: trainer.Training, batch: pipeline.PlacedBatch) -> tuple[float, float, Any]:
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
    training: trainer.Training, batch: pipeline.PlacedBatch
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


def _time_sampling(training: trainer.Training) -> dict[str, float]:
    source = training.source
    artists = sampling.artist_rows(source.split.artist_N)
    return _spread(
        _time_each(lambda i: source.rows(artists, i), steps=training.plan.steps_per_dispatch)
    )


def _time_pipeline(training: trainer.Training) -> dict[str, float]:
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
    training: trainer.Training, state: TrainState, profile: str | None
) -> tuple[TrainState, Figures]:
    """Training's dispatches; the scalars of one are read when the next is on its way."""
    times_ms, waits_ms, before = [], [], None
    read_s = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for i, (steps, following, scalars, wait_s) in enumerate(training.drive(state)):
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


def _time_checkpoint(training: trainer.Training, state: TrainState) -> float:
    """How long a save keeps the loop from its next step; the rest is done in the background."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        with contextlib.closing(checkpoints):
            times_ms = []
            for step in (1, 2, 3):
                checkpoints.wait()
                started_s = time.perf_counter()
                checkpoints.save(state, step=step, roc_auc=None, window=[])
                times_ms.append(_passed_ms(started_s))
    return float(np.median(times_ms))


def _flop(
    config: Config, training: trainer.Training, image_size: int, compiled: Any, ms: float
) -> Figures:
    images, devices = training.images_per_step, training.mesh.size
    count = 1 if training.loops else len(training.plan.steps(0))  # XLA counts a loop's body once.
    compiler = devices * compiled.cost_analysis()["flops"] / (images * count)  # Of one device.
    counted = compiler
    if config.model.backbone == "conv_blocks":
        forward, first = forward_flop(config, image_size=config.augmentation.crop or image_size)
        # Backward are an input gradient and a weight gradient for each layer, but no pixel's.
        counted = (3 * forward - first) * (2 if config.loss.view_weight else 1)
    per_s = counted * images / (ms / 1000)
    kind = jax.devices()[0].device_kind
    peaks = next((peak for name, peak in PEAK_FLOP_PER_S.items() if name in kind), {})
    peak = peaks.get(config.model.dtype)
    return {
        "counted_per_image": counted,
        "compiler_per_image": compiler,
        "per_s": per_s,
        "of_peak": None if peak is None else per_s / (devices * peak),
    }


def peak_memory() -> int:
    """Returns the device's peak in bytes, or on a CPU the process's."""
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
