"""A training so small that many tests can afford one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


def argv(store_path: Path, run: Path, *overrides: str) -> list[str]:
    return [*TINY, f"--config.data.store={store_path}", "--workdir", str(run), *overrides]


def train(words: list[str], *, python: tuple[str, ...] = ("-m", "painterjax.train")):
    return subprocess.run(
        [sys.executable, *python, *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
