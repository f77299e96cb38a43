"""Trains an embedding of painters' styles and evaluates it at the end.

    python -m painterjax.train --config NAME --workdir RUN [--config.key=value ...] [--distributed]

Example:

    python -m painterjax.train --config quickstart --workdir runs/quickstart

NAME is a shipped recipe, or the path of one as in configs/quickstart.py. Run it again to continue a
run that was stopped: it ends as if it had never been stopped. Ctrl-C and SIGTERM save where it is;
a second Ctrl-C ends it at once. --distributed trains together with other processes.
"""

import contextlib
import signal
import sys
from pathlib import Path

import jax

from painterjax.common import cli, signals
from painterjax.common.config import Config
from painterjax.common.memory import full_memory_explained
from painterjax.data import pipeline, store_builder, synthetic
from painterjax.data.store import Store, open_store, verify
from painterjax.distributed import compilation, processes
from painterjax.run import checkpoint, config_checks, evaluation
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import BEST_BY, Checkpoints
from painterjax.run.load import load_run
from painterjax.run.recorder import Recorder
from painterjax.training import trainer, validation
from painterjax.training.step import TrainState
from painterjax.training.trainer import Training
from painterjax.training.validation import Validator


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.train`."""
    compilation.keep_on_disk()
    config, options = cli.config_and_options(
        argv,
        doc=__doc__ or "",
        required={"workdir": "the run folder to write or to continue"},
        switches={"distributed": "train together with other processes"},
    )
    if options["distributed"]:
        processes.join()
    else:
        _paint_missing_store(config)
    train(config, Path(options["workdir"]))


def train(config: Config, path: Path) -> None:
    """Trains to the config's last epoch, from the newest checkpoint of `path` if it has one.

    Several processes run this same loop; process 0 alone writes the run folder and evaluates.

    Raises:
      InputError: the config, the store or the run folder does not fit, or another process has
        another config or store; nothing was changed.
      DivergedError: a loss or gradient is not finite; earlier checkpoints are kept.
      Stopped: a process received a signal; the checkpoint of the last step is written.
    """
    with contextlib.ExitStack() as stack, full_memory_explained():
        (store, validator), terms = processes.agree(lambda: _open(config, path, stack))
        training = trainer.build(config, store.splits["train"], resident=terms["resident"])
        stack.callback(training.batches.close)
        if processes.is_writer():
            _say_where_images_are(config, store, training)
            run_folder.begin(path, config, store.info)
        checkpoints = Checkpoints(path, steps=terms["checkpoints"])
        stack.enter_context(contextlib.closing(checkpoints))
        _take_steps(config, path, training, validator, checkpoints)
        processes.take_back_sigterm()
        run = load_run(path, checkpoints)
        if processes.is_writer():
            evaluation.evaluate(run)
            print(f"run: {path}")
        processes.wait_for_all()


def _paint_missing_store(config: Config) -> None:
    """Makes the synthetic store that quickstart trains on, where there is none yet."""
    config_checks.check_keys(config)
    path = Path(config.data.store)
    if config.data.store == synthetic.STORE and not path.exists():
        size = synthetic.STORE_IMAGE_SIZE
        print(f"train: no store at {path}: painting it, {size} pixels an image", file=sys.stderr)
        store_builder.build_synthetic_store(path, image_size=size, workers=cli.cores())


def _open(
    config: Config, path: Path, stack: contextlib.ExitStack
) -> tuple[tuple[Store, Validator], processes.Terms]:
    """Checks all that can be refused, and claims the run folder, before anything is written."""
    config_checks.check_keys(config)
    store = open_store(config.data.store)
    config_checks.check(config, image_size=store.image_size)
    config_checks.check_devices(config, jax.device_count())
    validator = validation.prepare(config, store)
    resident = pipeline.keep_on_device(config.data.residency, store.splits["train"])
    terms = {"config": config.to_dict(), "dataset": store.info}
    if not processes.is_writer():
        verify(store.path)
        return (store, validator), terms
    print("train: setting up", file=sys.stderr)
    run_folder.check_folder(path)
    run_folder.check_same(path, "config", config.to_dict())
    run_folder.check_same(path, "dataset", store.info)
    verify(store.path)
    stack.enter_context(run_folder.claimed(path))
    steps = checkpoint.find_whole(path, clean=True)
    return (store, validator), {**terms, "resident": resident, "checkpoints": steps}


def _say_where_images_are(config: Config, store: Store, training: Training) -> None:
    needed, free = pipeline.budget(store.splits["train"])
    place = "host" if training.image_NxSxSxC is None else "device"
    print(
        f"train: {needed / 1e9:.2f} GB of images are kept on the {place} (data.residency is"
        f" {config.data.residency}; the device had {free / 1e9:.2f} GB free)",
        file=sys.stderr,
    )


def _take_steps(
    config: Config,
    path: Path,
    training: Training,
    validator: Validator,
    checkpoints: Checkpoints,
) -> None:
    """Takes the steps behind the newest checkpoint; raises Stopped at a signal."""
    start, state, window = checkpoints.latest_step or 0, training.state, []
    if start:
        state, window = checkpoints.restore(state)
    recorder = Recorder(path, config, training, start=start, window=window)
    with contextlib.closing(recorder):
        training = trainer.compiled(training)  # Until here a signal ends the process at once.
        loop = _Loop(config, training, validator, checkpoints, recorder)
        with signals.deferred():
            loop.run(state, start)
            if loop.stop.is_set:
                processes.wait_for_all()
    if loop.stop.is_set:
        raise signals.Stopped(signals.received() or signal.SIGTERM)


class _Loop:
    """Steps, records, validation and checkpoints, the same in every process."""

    def __init__(
        self,
        config: Config,
        training: Training,
        validator: Validator,
        checkpoints: Checkpoints,
        recorder: Recorder,
    ) -> None:
        self._config, self._training, self._validator = config, training, validator
        self._checkpoints, self._recorder = checkpoints, recorder
        self.stop = processes.StopSignal()

    def run(self, state: TrainState, start: int) -> None:
        """Trains from step `start` to the last one, or until a signal."""
        plan = self._training.plan
        if start and plan.ends_epoch(start) and not self._checkpoints.latest_is_validated:
            self._save(state, start)  # An earlier start was stopped while it validated.
        for steps, following, scalars, wait_s in self._training.drive(state, after=start):
            self._recorder.push(steps, scalars, wait_s)
            self._checkpoints.check()
            is_due = plan.ends_window(steps[-1], self._config.checkpoint_every_steps)
            if self.stop.check() or is_due:
                self._save(following, steps[-1])
            if self.stop.is_set:
                break
        self._checkpoints.wait()

    def _save(self, state: TrainState, step: int) -> None:
        """Saves a state, and validates it first where it ends an epoch."""
        self._recorder.drain()  # Only a state whose gradient was finite is saved.
        figures = {}
        if self._training.plan.ends_epoch(step) and not self.stop.is_set:
            # A validation that a signal breaks off is repeated by the next start.
            with contextlib.suppress(signals.Stopped):
                figures = self._validator.judge(state, self._raise_if_stopped)
                self._recorder.validation(step, figures)
        self._recorder.flush()
        self._checkpoints.save(
            state, step=step, roc_auc=figures.get(BEST_BY), window=self._recorder.window.copy()
        )

    def _raise_if_stopped(self, _images: int) -> None:
        if self.stop.check():
            raise signals.Stopped(signals.received())


if __name__ == "__main__":
    cli.run(main, "train", processes.leave)
