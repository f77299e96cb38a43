"""Trains an embedding of painters' styles and judges it at the end.

    python -m painterjax.train --config configs/NAME.py --workdir RUN [--config.key=value ...]

Example:

    python -m painterjax.train --config configs/quickstart.py --workdir runs/quickstart

Run it again to continue a run that was stopped: it ends as if it had never been stopped. On Ctrl-C
and SIGTERM it saves where it is; a second Ctrl-C leaves at once.
"""

import contextlib
import functools
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from painterjax.common import cli, files, signals
from painterjax.common.config import Config
from painterjax.common.errors import DivergedError
from painterjax.common.memory import full_memory_explained
from painterjax.common.progress import Progress
from painterjax.data import pipeline
from painterjax.data.store import Store, open_store, verify
from painterjax.distributed import compilation, processes
from painterjax.losses import objectives
from painterjax.losses.objectives import Scalars
from painterjax.run import config_checks, evaluation, metrics_log, tensorboard
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import BEST_BY, Checkpoints
from painterjax.run.load import load_run
from painterjax.training import trainer, validation
from painterjax.training.step import TrainState


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.train`."""
    compilation.keep_on_disk()
    if any(word.startswith("--distributed") for word in argv):
        processes.join()
    with processes.deaths_explained():
        with processes.together():
            config, given = cli.config_and_options(
                argv,
                doc=__doc__ or "",
                required={"workdir": "the run folder to write or to continue"},
                switches={"distributed": "train together with other processes"},
            )
        train(config, Path(given["workdir"]))


def train(config: Config, run: Path) -> None:
    """Trains to the config's last epoch, from the newest checkpoint of `run` if it has one.

    Of several processes one, the writer, keeps the run folder and judges; the others take the same
    steps.

    Raises:
      InputError: the config, the store or the run folder does not fit, or another process has
        another config or store; nothing was changed.
      DivergedError: a loss or gradient is not finite; earlier checkpoints are kept.
      PeerError: another process died.
      Stopped: a process was told to stop; the checkpoint of the last step is written.
    """
    with processes.together() as mine:
        config_checks.check_keys(config)
        store = open_store(config.data.store)
        config_checks.check(config, image_size=store.image_size)
        mine.update(config=config.to_dict(), dataset=store.info)
        if processes.is_writer():
            print("train: setting up", file=sys.stderr)
            run_folder.check_folder(run)
            run_folder.check_same(run, "config", config.to_dict())
            run_folder.check_same(run, "dataset", store.info)
    with processes.together():
        verify(store.path)
    with processes.together(), full_memory_explained():
        config_checks.check_devices(config, jax.device_count())
        validator = validation.prepare(config, store) if processes.is_writer() else None
        training = _training(config, store)
    # Of a stop all processes learn in the next block.
    with contextlib.suppress(signals.Stopped), contextlib.closing(training.batches):
        if validator:
            _write(config, run, store, training, validator)
        else:
            _follow(config, training)
    with processes.together():
        signals.raise_if_asked()
        if processes.is_writer():
            evaluation.evaluate(load_run(run))
            print(f"run: {run}")
    processes.part()


def _training(config: Config, store: Store) -> trainer.Training:
    needed, free = pipeline.budget(store.splits["train"])
    training = trainer.training(config, store.splits["train"])
    place = "device" if training.image_NxSxSxC is not None else "host"
    if processes.is_writer():
        print(
            f"train: {needed / 1e9:.2f} GB of images live on the {place} (data.residency="
            f"{config.data.residency}, {free / 1e9:.2f} GB were free on the device)",
            file=sys.stderr,
        )
    return training


def _write(
    config: Config,
    run: Path,
    store: Store,
    training: trainer.Training,
    validator: validation.Validation,
) -> None:
    """Trains and keeps the run folder."""
    with full_memory_explained(), contextlib.ExitStack() as stack:
        state, start, window = training.state, 0, []
        with processes.together():
            run.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.claimed(run))
            run_folder.begin(run, config, store.info)
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(run, clean=True)))
            if start := checkpoints.latest_step or 0:
                state, window = checkpoints.restore(state, training.batches)
            log = stack.enter_context(
                metrics_log.MetricsLog(run, last_step=start, recorded=start - len(window))
            )
        _loop(config, training, validator, checkpoints, log, start, state, window)


def _loop(
    config: Config,
    training: trainer.Training,
    validator: validation.Validation,
    checkpoints: Checkpoints,
    log: metrics_log.MetricsLog,
    start: int,
    state: TrainState,
    window: list[dict[str, float]],
) -> None:
    plan = training.plan
    with Progress("train", total=plan.num_steps, unit="step", done=start) as progress:
        if not start:
            title, sheet_HxWxC = tensorboard.tuples(config, training)
            log.write_image(step=1, title=title, image_HxWxC=sheet_HxWxC)
        recorder = _Recorder(log, progress, config, training, window)
        save = functools.partial(_save, training, validator, checkpoints, recorder)
        with signals.held():
            if start and plan.ends_epoch(start) and not checkpoints.latest_is_validated:
                save(state, start)  # An earlier start was stopped while it validated.
            agreement = processes.Agreement(training.mesh)
            for steps, trained, scalars, wait_s in _dispatches(training, state, start):
                recorder.push(steps, scalars, wait_s)
                checkpoints.check()
                told = agreement.stop()
                if told or plan.ends_window(steps[-1], config.checkpoint_every_steps):
                    save(trained, steps[-1])
                    told = agreement.stop_now()
                if told:
                    break
            checkpoints.wait()
            processes.share(None)  # Who was told to stop would not wait for it any more.


def _follow(config: Config, training: trainer.Training) -> None:
    """Takes the steps that the writer takes."""
    with processes.together():
        pass  # The writer opens the run folder.
    with full_memory_explained(), signals.held():
        agreement = processes.Agreement(training.mesh)
        for steps, *_ in _dispatches(training, training.state, start=0):
            told = agreement.stop()
            if told or training.plan.ends_window(steps[-1], config.checkpoint_every_steps):
                told = agreement.stop_now()
            if told:
                break
        processes.share(None)


def _dispatches(
    training: trainer.Training, state: TrainState, start: int
) -> Iterator[tuple[range, TrainState, Scalars, float]]:
    """Trains, in all processes from the writer's state, which `start` steps came to."""
    start, position = processes.share((start, training.batches.get_state()))
    training.batches.set_state(position)
    dispatches = training.drive(processes.replicate(training.mesh, state), after=start)
    # It compiles, and nothing is lost yet; but several processes stop together.
    alone = jax.process_count() == 1
    with signals.released() if alone else contextlib.nullcontext():
        first = list(itertools.islice(dispatches, 1))
    return itertools.chain(first, dispatches)


def _save(
    training: trainer.Training,
    validator: validation.Validation,
    checkpoints: Checkpoints,
    recorder: "_Recorder",
    state: TrainState,
    step: int,
) -> None:
    """Saves a state, and judges it where it ends an epoch."""
    recorder.drain()  # Only a state whose gradient was finite is saved.
    figures = {}
    if training.plan.ends_epoch(step):
        # Who is told to stop while he judges saves what he has; the next start judges it.
        with contextlib.suppress(signals.Stopped), signals.released():
            figures = validator.judge(state)
    if figures:
        recorder.write(step, "val", figures)
    recorder.log.flush()
    checkpoints.save(
        state,
        training.batches,
        step=step,
        roc_auc=figures.get(BEST_BY),
        window=recorder.window.copy(),
    )


class _Recorder:
    """Records the mean scalars of windows of steps.

    A window ends every `log_every_steps` of an epoch and with it. The scalars of a dispatch are
    read when the next one is on its way, so that the device never waits for Python.
    """

    def __init__(
        self,
        log: metrics_log.MetricsLog,
        progress: Progress,
        config: Config,
        training: trainer.Training,
        window: list[dict[str, float]],
    ) -> None:
        self.log, self.progress, self.config, self.training = log, progress, config, training
        self._pending: tuple[range, Scalars, float] | None = None
        self.window = window  # what no record has yet, one dict a step
        self._warned = False  # of a collapse
        self._read_s = 0.0  # when the last dispatch had been read

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

    def _record(self, step: int, values: dict[str, float]) -> None:
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            raise DivergedError(
                f"step {step}: the loss is {values['loss']}, the gradient's norm"
                f" {values['gradient_norm']}: lower optimizer.learning_rate in another --workdir;"
                " the checkpoints of earlier steps are kept"
            )
        if not self._warned and (warning := objectives.collapse_warning(values)):
            self._warned = True
            self.progress.say(f"train: step {step}: {warning}")
        self.window.append(values)
        self.progress.advance()
        if self.training.plan.ends_window(step, self.config.log_every_steps):
            self._end_window(step)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Writes one record of a split."""
        self.log.write(step=step, epoch=self._epoch(step), split=split, values=values)

    def _end_window(self, step: int) -> None:
        means = {key: float(np.mean([w[key] for w in self.window])) for key in self.window[0]}
        self.window.clear()
        means["images_per_s"] = 1000 * self.training.images_per_step / means["step_ms"]
        self.write(step, "train", means)
        self.progress.show(
            f"epoch {self._epoch(step)}/{self.config.num_epochs}",
            loss=f"{means['loss']:.3f}",
            images_per_s=f"{means['images_per_s']:.0f}",
        )

    def _epoch(self, step: int) -> int:
        return -(-step // self.training.plan.steps_per_epoch)


if __name__ == "__main__":
    cli.run(main, "train", processes.leave)
