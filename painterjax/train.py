"""Trains an embedding of painters' styles and evaluates it at the end.

    python -m painterjax.train --config NAME --workdir RUN [--config.key=value ...]
        [--init-from RUN] [--distributed] [--check-store]

Example:

    python -m painterjax.train --config quickstart --workdir runs/quickstart

NAME is a recipe below, or a path. Run it again to continue, as if never stopped. Ctrl-C and SIGTERM
save the step and end it, a second Ctrl-C at once. --init-from starts from a run's best weights;
--distributed trains with other processes, which Slurm, Kubernetes or launch/local.sh start.
"""

import contextlib
import signal
import sys
from pathlib import Path

import jax

from painterjax.common import cli, signals
from painterjax.common.config import Config
from painterjax.common.memory import full_memory_explained
from painterjax.data import pipeline, store_builder
from painterjax.data.store import Store, open_store, verify
from painterjax.distributed import compilation, processes
from painterjax.model.trainable import keeps_backbone
from painterjax.run import checkpoint, config_checks, evaluation, features, initial, summary
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
    config: Config
    config, options = cli.config_and_options(
        argv,
        doc=__doc__ or "",
        required={"workdir": "the run folder to write or to continue"},
        optional={"init-from": "a run whose weights to start from"},
        switches={
            "distributed": "train together with other processes",
            "check-store": "read the whole store, also what was found intact on this machine",
        },
    )
    if options["distributed"]:
        processes.join()
    else:
        config_checks.check_keys(config)
        store_builder.paint_if_missing(config.data.store, workers=cli.cores())
    init_from = options["init-from"]
    train(
        config,
        Path(options["workdir"]),
        Path(init_from) if init_from else None,
        check_store=options["check-store"],
    )


def train(
    config: Config, path: Path, init_from: Path | None = None, *, check_store: bool = False
) -> None:
    """Trains to the config's last epoch, from the newest checkpoint of `path` if it has one.

    Several processes run this same loop; process 0 alone writes the run folder.

    Args:
      config: the recipe.
      path: the run folder.
      init_from: the run whose weights to start from; not needed once `path` has a checkpoint.
      check_store: whether to read also what of the store was found intact on this machine.

    Raises:
      InputError: the config, the store, the run folder or `init_from` does not fit, or another
        process has others; nothing was changed.
      DivergedError: a loss or gradient is not finite; earlier checkpoints are kept.
      Stopped: a process received a signal; the checkpoint of the last step is written.
    """
    with contextlib.ExitStack() as stack, full_memory_explained():
        (store, validator), terms = processes.agree(
            lambda: _open(config, path, stack, init_from, check_store)
        )
        if keeps_backbone(config):  # It reads each image once.
            store = features.with_features(config, store, ("train", "val"))
            validator = validation.prepare(config, store)
        start = max(terms["checkpoints"], default=0)
        training = trainer.build(config, store.splits["train"], start=start)
        stack.callback(training.batches.close)
        origin = None
        if not terms["checkpoints"]:
            training, origin = initial.first_weights(config, store, training, path, init_from)
        if processes.is_writer():
            print(
                pipeline.summary(
                    training.source, wanted=config.batch_size, sampler=config.loss.sampler
                ),
                file=sys.stderr,
            )
            run_folder.begin(path, config, store.info, init_from=origin)
        keep_every = training.plan.steps_per_epoch * config.checkpoint_keep_every_epochs
        opened = Checkpoints(path, steps=terms["checkpoints"], keep_every=keep_every)
        checkpoints = stack.enter_context(contextlib.closing(opened))
        _take_steps(config, path, training, validator, checkpoints)
        processes.take_back_sigterm()
        figures = evaluation.evaluate(run := load_run(path, checkpoints), in_full=False)
        if processes.is_writer():
            print(summary.of_run(run, figures))
        processes.wait_for_all()


def _open(
    config: Config,
    path: Path,
    stack: contextlib.ExitStack,
    init_from: Path | None,
    check_store: bool,
) -> tuple[tuple[Store, Validator], processes.Terms]:
    """Checks all that can be refused, and claims the run folder, before anything is written."""
    config_checks.check_keys(config)
    store = open_store(config.data.store)
    config_checks.check(config, image_size=store.image_size)
    config_checks.check_devices(config, jax.device_count())
    validator = validation.prepare(config, store)
    if not keeps_backbone(config):  # Otherwise features are kept there, and are not read yet.
        pipeline.keep_on_device(config.data.residency, store.splits["train"])
    weights = initial.weights_sha256(config, init_from)
    terms = {"config": config.to_dict(), "dataset": store.info, **weights}
    if not processes.is_writer():
        verify(store.path, share=processes.share(), anew=check_store)
        return (store, validator), terms
    print("train: setting up", file=sys.stderr)
    run_folder.check(path, config, store)
    verify(store.path, share=processes.share(), anew=check_store)
    stack.enter_context(run_folder.claimed(path))
    steps = checkpoint.find_whole(path, clean=True)
    initial.check(path, init_from, config, has_checkpoint=bool(steps))
    return (store, validator), {**terms, "checkpoints": steps}


def _take_steps(
    config: Config,
    path: Path,
    training: Training,
    validator: Validator,
    checkpoints: Checkpoints,
) -> None:
    """Takes the steps behind the newest checkpoint; raises Stopped at a signal."""
    start, state, window = training.plan.start, training.state, []
    if checkpoints.latest_step is not None:
        state, window = checkpoints.restore(state)
    recorder = Recorder(path, config, training, start=start, window=window)
    with contextlib.closing(recorder):
        if training.plan.dispatches:
            training = trainer.compiled(training)  # Until here a signal ends the process at once.
        loop = _Loop(config, training, validator, checkpoints, recorder)
        with signals.deferred():
            loop.run(state)
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

    def run(self, state: TrainState) -> None:
        """Trains to the last step, or until a signal."""
        plan = self._training.plan
        is_result = plan.start or self._config.head.fit == "lda"
        if is_result and self._validates(plan.start) and not self._checkpoints.latest_is_validated:
            self._save(state, plan.start)  # It was fitted just now, or a stop came in between.
        for steps, following, scalars, wait_s in self._training.drive(state):
            self._recorder.push(steps, scalars, wait_s)
            self._checkpoints.check()
            is_due = plan.ends_window(steps[-1], self._config.checkpoint_every_steps)
            if self.stop.check() or is_due:
                self._save(following, steps[-1])
            if self.stop.is_set:
                break
        self._checkpoints.wait()

    def _save(self, state: TrainState, step: int) -> None:
        """Saves a state, and validates it first where that is due."""
        self._recorder.drain()  # Only a state whose gradient was finite is saved.
        figures = {}
        if self._validates(step) and not self.stop.is_set:
            # A validation that a signal breaks off is repeated by the next start.
            with contextlib.suppress(signals.Stopped):
                figures = self._validator.judge(state, self._raise_if_stopped)
                self._recorder.validation(step, figures, self._checkpoints.best_roc_auc())
        self._recorder.flush()
        self._checkpoints.save(
            state, step=step, roc_auc=figures.get(BEST_BY), window=self._recorder.window.copy()
        )

    def _validates(self, step: int) -> bool:
        """Whether the state behind a step is validated: every so many epochs, and at the end."""
        plan, every = self._training.plan, self._config.eval.every_epochs
        is_last = step == plan.num_steps
        return is_last or step % (every * plan.steps_per_epoch) == 0

    def _raise_if_stopped(self, _images: int) -> None:
        if self.stop.check():
            raise signals.Stopped(signals.received())


if __name__ == "__main__":
    cli.run(main, "train", processes.leave)
