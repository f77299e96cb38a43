"""What a training says of itself: mean scalars of windows of steps, validation, divergence."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax.common.config import Config
from painterjax.common.errors import DivergedError
from painterjax.common.progress import Progress
from painterjax.distributed import processes
from painterjax.losses import objectives
from painterjax.losses.objectives import Scalars
from painterjax.run import tensorboard
from painterjax.run.metrics_log import MetricsLog
from painterjax.training import lda
from painterjax.training.trainer import Training


class Recorder:
    """Records the mean scalars of windows of steps; only the writer's writes and prints.

    A window ends every `log_every_steps` of an epoch, and with the epoch. The scalars of a dispatch
    are read when the next one is on its way, so that the device never waits for Python.

    Args:
      run: the run folder.
      config: the recipe.
      training: what takes the steps.
      start: the step of the checkpoint that training continues from, or 0.
      window: the scalars of the steps up to `start` that no record has yet, one dict a step.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        training: Training,
        *,
        start: int,
        window: list[dict[str, float]],
    ) -> None:
        self.window = window
        self._config, self._training = config, training
        self._pending: tuple[range, Scalars, float] | None = None
        self._has_warned = False  # of a collapse
        self._read_s = 0.0  # when the last dispatch had been read
        self._log: MetricsLog | None = None
        self._progress: Progress | None = None
        if processes.is_writer():
            # What a start that was killed says of its fit is said again.
            last_step = -1 if training.fitted else start
            self._log = MetricsLog(run, last_step=last_step, recorded=start - len(window))
            self._progress = Progress(
                "train", total=training.plan.num_steps, unit="step", done=start
            )
            if not start:
                title, sheet_HxWxC = tensorboard.tuples(config, training)
                self._log.write_image(step=1, title=title, image_HxWxC=sheet_HxWxC)
            if training.fitted:
                self._write(0, "fit", dict(training.fitted))
                self._progress.say(f"train: {lda.summary(training.fitted)}")

    def push(self, steps: range, scalars: Scalars, wait_s: float) -> None:
        """Takes the scalars of steps just dispatched and reads those of the dispatch before."""
        if self._pending is None:
            self._read_s = time.perf_counter()  # Compilation and validation do not count.
        else:
            self.drain()
        self._pending = (steps, scalars, wait_s)

    def drain(self) -> None:
        """Waits for the pending steps; raises DivergedError where one is not finite."""
        if self._pending is None:
            return
        (steps, scalars, wait_s), self._pending = self._pending, None
        values = {key: array_L.tolist() for key, array_L in jax.device_get(scalars).items()}
        now_s = time.perf_counter()
        passed_s, self._read_s = now_s - self._read_s, now_s
        clock = {
            "step_ms": 1000 * passed_s / len(steps),
            "data_wait_ms": 1000 * wait_s / len(steps),
        }
        for i, step in enumerate(steps):
            self._record(step, {**{key: array_L[i] for key, array_L in values.items()}, **clock})

    def validation(self, step: int, figures: dict[str, float], best: float | None) -> None:
        """Records the figures of validation after a step, and shows them beside the best before."""
        self._write(step, "val", figures)
        if self._progress is None:
            return
        roc_auc = figures["roc_auc"]
        is_best = best is None or roc_auc >= best
        so_far = "the best so far" if is_best else f"the best so far is {best:.3f}"
        words = [
            f"validation ROC AUC {roc_auc:.3f} ({so_far})",
            f"recall@1 {figures['recall_at_1']:.3f}",
            self._progress.time_left(),
        ]
        when = self._epoch_of(step) if step else "train: the fitted head"
        self._progress.say(f"{when}: {', '.join(filter(None, words))}")

    def flush(self) -> None:
        """Puts all records on the disk: a checkpoint never knows of more steps than they do."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Closes the bar and the files."""
        if self._progress is not None:
            self._progress.close()
        if self._log is not None:
            self._log.close()

    def _record(self, step: int, values: dict[str, float]) -> None:
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            raise DivergedError(
                f"step {step}: the loss is {values['loss']}, the gradient's norm"
                f" {values['gradient_norm']}: lower optimizer.learning_rate in another --workdir;"
                " the checkpoints of earlier steps are kept"
            )
        self.window.append(values)
        self._warn_of_collapse(step, values)
        if self._progress is not None:
            self._progress.advance()
        if self._training.plan.ends_window(step, self._config.log_every_steps):
            self._end_window(step)

    def _warn_of_collapse(self, step: int, values: dict[str, float]) -> None:
        warning = None if self._has_warned else objectives.collapse_warning(values)
        if warning:
            self._has_warned = True
            if self._progress is not None:
                self._progress.say(f"train: step {step}: {warning}")

    def _end_window(self, step: int) -> None:
        means = {key: float(np.mean([w[key] for w in self.window])) for key in self.window[0]}
        self.window.clear()
        means["images_per_s"] = 1000 * self._training.images_per_step / means["step_ms"]
        self._write(step, "train", means)
        if self._progress is not None:
            self._progress.show(
                self._epoch_of(step),
                loss=f"{means['loss']:.3f}",
                images_per_s=f"{means['images_per_s']:.0f}",
            )

    def _write(self, step: int, split: str, values: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(step=step, epoch=self._epoch(step), split=split, values=values)

    def _epoch_of(self, step: int) -> str:
        return f"epoch {self._epoch(step)}/{self._config.num_epochs}"

    def _epoch(self, step: int) -> int:
        return -(-step // self._training.plan.steps_per_epoch)
