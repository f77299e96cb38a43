"""A training so small that many tests can afford one."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2

ROOT = Path(__file__).parents[2]
# 36 training paintings, hence 36 steps of one triplet in an epoch.
STEPS_PER_EPOCH, EPOCHS = 36, 2
TINY = [
    "--config=configs/quickstart.py",
    "--config.loss.name=triplet",
    "--config.batch_size=1",
    f"--config.num_epochs={EPOCHS}",
    "--config.log_every_steps=2",
    "--config.checkpoint_every_steps=10",
    "--config.model.widths=(8, 16)",
    "--config.model.depths=(1, 1)",
    "--config.model.embedding_dim=16",
    "--config.eval.triplets=200",
]
STORE = [
    "synthetic", "--artists", "8", "--paintings", "8", "--image-size", "32",
    "--val-fraction", "0.25", "--workers", "1",
]  # fmt: skip
# A small rate, so that training does not magnify the rounding of other numbers of devices. Without
# warps: only process 0 finds on disk what was compiled before, so the others compile in each test.
OF_SEVERAL = [
    "--config.batch_size=4", "--config.checkpoint_every_steps=4",
    "--config.optimizer.learning_rate=1e-6", "--config.num_epochs=2",
    "--config.augmentation.shift=0.0", "--config.augmentation.scale=(1.0, 1.0)",
]  # fmt: skip
# Of the processes that train together.
TWO_DEVICES = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def argv(store_path: Path, run: Path, *overrides: str) -> list[str]:
    return [*TINY, f"--config.data.store={store_path}", "--workdir", str(run), *overrides]


def together(store_path: Path, run: Path, *, python: str = sys.executable) -> list[str]:
    """Returns the command of a process that trains with others."""
    words = argv(store_path, run, *OF_SEVERAL)
    return [python, "-m", "painterjax.train", *words, "--distributed"]


def train(words: list[str], *, python: tuple[str, ...] = ("-m", "painterjax.train")):
    return subprocess.run(
        [sys.executable, *python, *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def summaries(run: Path) -> Iterator[tuple[int, Any]]:
    """Yields the step and each value of all TensorBoard event files of a run, in order."""
    for path in sorted(run.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            if at + 16 + length > len(data):
                break  # Cut short by a full disk; TensorBoard goes on with the next file as well.
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])  # type: ignore
            yield from ((event.step, value) for value in event.summary.value)
            at += 16 + length
