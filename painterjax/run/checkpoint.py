"""Checkpoints of a run through Orbax: the latest two, the best by validation, and others kept."""

import concurrent.futures
import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint.experimental.v1 as ocp

from painterjax.common import checksums
from painterjax.common.errors import InputError
from painterjax.distributed import processes
from painterjax.model.build import PureDict
from painterjax.training.step import TrainState

BEST_BY = "roc_auc"  # Of the validation split; larger is better.
NUM_LATEST = 2
DROPPED = ".dropped"  # Behind the step of a checkpoint that is being removed.
EVERY_STEP: Any = ocp.training.save_decision_policies.FixedIntervalPolicy(1)


class Checkpoints:
    """The checkpoints of one run folder, each in `checkpoints/<step>`.

    A checkpoint holds what training changes of the `network` (parameters, or their average, and
    BatchNorm statistics), `training` (proxies, optimizer, step and, beside an average, parameters)
    and, as metadata, the scalars that no record has yet. The step is the position in the stream of
    batches as well. Saves go on in the background while training does, and end with the SHA-256 of
    all files. All processes of a training open the checkpoints and save, Orbax writes each array
    once, and the writer alone seals and removes. A superseded checkpoint is renamed before it is
    removed, so that a kill leaves no part under its name.

    Args:
      run: the run folder.
      steps: the whole checkpoints, as `find_whole` found them; None looks for them.
      keep_every: keeps the checkpoints of all multiples of this many steps; 0 keeps none of them.
    """

    def __init__(self, run: Path, *, steps: list[int] | None = None, keep_every: int = 0) -> None:
        # Orbax logs what it raises as well, with tracebacks.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = (run / "checkpoints").resolve()
        self._whole = set(find_whole(run) if steps is None else steps)
        self._keep_every = keep_every
        self._folder.mkdir(parents=True, exist_ok=True)
        self._orbax: Any = ocp.training.Checkpointer(
            str(self._folder), save_decision_policy=EVERY_STEP
        )
        self._background = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: concurrent.futures.Future[None] | None = None

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return max((checkpoint.step for checkpoint in self._checkpoints), default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the best validation; the newest where none was validated; or None."""
        return self.latest_step if self._best is None else self._best.step

    def best_roc_auc(self) -> float | None:
        """Waits for the save that is under way; returns the best figure of validation, or None."""
        self.wait()
        return None if self._best is None else self._best.metrics[BEST_BY]

    @property
    def _best(self) -> Any:
        validated = [c for c in self._checkpoints if c.metrics]
        return max(validated, key=lambda c: (c.metrics[BEST_BY], c.step), default=None)

    @property
    def latest_is_validated(self) -> bool:
        """Whether the newest checkpoint has a validation figure."""
        return any(c.metrics for c in self._checkpoints if c.step == self.latest_step)

    @property
    def _checkpoints(self) -> list[Any]:
        return [c for c in self._orbax.checkpoints if c.step in self._whole]

    def save(
        self, state: TrainState, *, step: int, roc_auc: float | None, window: list[dict[str, float]]
    ) -> None:
        """Starts to save in the background; raises what went wrong in the previous save.

        Args:
          state: what training continues from.
          step: the steps taken; a checkpoint of the same step is replaced.
          roc_auc: by validation; None where there was none.
          window: the scalars of the steps since the last record.
        """
        self.wait()
        with _failure_explained(step):
            if step in self._whole:
                self._drop(step)
            pending = self._orbax.save_checkpointables_async(
                step,
                _parts(state),
                force=True,
                overwrite=True,
                metrics=None if roc_auc is None else {BEST_BY: roc_auc},
                custom_metadata={"window": window},
            )
        self._saving = self._background.submit(self._finish, pending, step)

    def _finish(self, pending: Any, step: int) -> None:
        with _failure_explained(step):
            pending.result()
            if processes.is_writer():
                checksums.seal(self._folder / str(step))
            self._whole.add(step)
            for old in self._whole - {*sorted(self._whole)[-NUM_LATEST:], self.best_step}:
                if not self._keep_every or old % self._keep_every:
                    self._drop(old)

    def _drop(self, step: int) -> None:
        self._whole.discard(step)
        if processes.is_writer():
            dropped = self._folder / f"{step}{DROPPED}"
            (self._folder / str(step)).rename(dropped)
            shutil.rmtree(dropped)

    def check(self) -> None:
        """Raises what went wrong in a save that has ended."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the save that is under way and raises what went wrong."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def restore(self, like: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the newest state, on the devices of `like`, and the window saved with it."""
        loaded = self._orbax.load_checkpointables(
            self.latest_step, jax.tree.map(_abstract, _parts(like))
        )
        average = {"average": loaded["network"]["params"]} if like.average else {}
        metadata = self._orbax.checkpointables_metadata(self.latest_step).custom_metadata or {}
        # Runs of earlier versions have no window.
        state = TrainState(**{**loaded["network"], **loaded["training"], **average})
        return state, metadata.get("window", [])

    def restore_network(self, params: PureDict, stats: PureDict) -> tuple[PureDict, PureDict, int]:
        """Returns the best parameters and statistics, shaped as the given ones, and their step.

        Raises:
          InputError: there is no checkpoint.
        """
        step = self.best_step
        if step is None:
            raise InputError(f"{self._folder} holds no checkpoint: train first")
        step = processes.of_writer(step)  # Whose figures decide.
        like = jax.tree.map(_abstract, {"network": {"params": params, "stats": stats}})
        network = self._orbax.load_checkpointables(step, like)["network"]
        return network["params"], network["stats"], step

    def close(self) -> None:
        """Waits for the save that is under way and closes."""
        try:
            self.wait()
        finally:
            self._background.shutdown()
            with contextlib.suppress(Exception):  # It raises once more what a save did.
                self._orbax.close()


def find_whole(run: Path, *, clean: bool = False) -> list[int]:
    """Returns the steps whose checkpoint has every byte that was saved; says which have not.

    Args:
      run: the run folder.
      clean: whether to remove saves that were cut short, and to rename damaged checkpoints to
        `<step>.damaged`; only for the process that saves.

    Raises:
      InputError: there are checkpoints, and all are damaged.
    """
    folder = run / "checkpoints"
    for path in folder.glob("*") if clean else ():
        if path.name.endswith((DROPPED, ".orbax-checkpoint-tmp")):
            shutil.rmtree(path)
    path_by_step = {int(p.name): p for p in folder.glob("*") if p.name.isdecimal()}
    sealed = {step for step, path in path_by_step.items() if checksums.is_sealed(path)}
    if path_by_step and not sealed:
        print(f"{folder}: no checkpoint has checksums; none is checked", file=sys.stderr)
        for path in path_by_step.values() if clean else ():
            checksums.seal(path)  # Otherwise it would look cut short beside the next one.
        return sorted(path_by_step)
    # A save that was cut short is the newest of all.
    cut_short = {step for step in path_by_step if step > max(sealed)}
    damage_by_step = {step: _damage(path_by_step[step]) for step in path_by_step.keys() - cut_short}
    whole = {step for step, damage in damage_by_step.items() if not damage}
    if sealed and not whole:
        step = max(sealed)
        name, what = min(damage_by_step[step].items())
        raise InputError(
            f"all checkpoints in {folder} are damaged ({step}/{name} {what}):"
            " bring back a copy, or begin another run"
        )
    for step in damage_by_step.keys() - whole:
        if path_by_step[step].exists():  # Otherwise a training has removed it meanwhile.
            _report_damage(path_by_step[step], damage_by_step[step], rename=clean)
    for step in cut_short if clean else ():
        shutil.rmtree(path_by_step[step])
    return sorted(whole)


def _damage(path: Path) -> dict[str, str]:
    try:
        return checksums.damage(path)
    except OSError as error:
        name = Path(error.filename or path / checksums.NAME)
        return {name.relative_to(path).as_posix(): f"cannot be read: {error.strerror}"}


def _report_damage(path: Path, damage: dict[str, str], *, rename: bool) -> None:
    name, what = min(damage.items())
    print(f"{path} is damaged ({name} {what}): another checkpoint is taken", file=sys.stderr)
    if rename:
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


@contextlib.contextmanager
def _failure_explained(step: int) -> Iterator[None]:
    """Turns what a save raises into an InputError of one line; a lost process stays JAX's error."""
    try:
        yield
    except Exception as error:  # Orbax and TensorStore raise what they like.
        if isinstance(error.__cause__ or error, jax.errors.JaxRuntimeError):
            raise  # Orbax waited for a process that is gone.
        reason = " ".join(str(error).split())
        raise InputError(
            f"the checkpoint of step {step} cannot be written ({reason}):"
            " mend that and run it again, earlier checkpoints are kept"
        ) from error


def _parts(state: TrainState) -> dict[str, Any]:
    network = {"params": state.judged_params, "stats": state.stats}
    training = {"proxies": state.proxies, "moments": state.moments, "step": state.step}
    return {
        "network": network,
        "training": {**training, "params": state.params} if state.average else training,
    }


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
