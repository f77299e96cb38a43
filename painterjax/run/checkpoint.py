"""Checkpoints of a run through Orbax: the latest two and the best one by validation."""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import grain
import jax
import orbax.checkpoint.experimental.v1 as ocp
from orbax.checkpoint import checkpoint_manager

from painterjax.common import checksums
from painterjax.common.errors import InputError
from painterjax.distributed import sharding
from painterjax.model.build import PureDict
from painterjax.training.step import TrainState

BEST_BY = "roc_auc"  # Of the validation split; larger is better.
NUM_LATEST = 2
DROPPED = ".dropped"  # Behind the step of what is being removed.


class Checkpoints:
    """The checkpoints of one run folder, each in `checkpoints/<step>`.

    A checkpoint holds `network` (parameters and BatchNorm statistics), `training` (proxies,
    optimizer and step), `data` (the position in the stream of batches) and, as metadata, the
    scalars that no record has yet. Saves go on in the background while training does, and end with
    the SHA-256 of all files. The folder of a save that was cut short is ignored, as is, with a line
    that says so, one of which a byte has changed or a file is missing. What is superseded is
    renamed before it is removed, so that a kill leaves no part of it under its name.

    Args:
      run: the run folder.
      clean: whether to remove what was cut short, and to rename what has changed to
        `<step>.damaged`; only for the one that saves.

    Raises:
      InputError: there are checkpoints, and all are damaged.
    """

    def __init__(self, run: Path, *, clean: bool = False) -> None:
        # Orbax logs what it raises as well, with tracebacks.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = run / "checkpoints"
        self._whole = _whole_steps(self._folder, clean=clean)
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone() as context:
            self._orbax: Any = ocp.training.Checkpointer(
                str(self._folder.resolve()),
                context=context,
                cleanup_tmp_directories=clean,
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
        validated = [c for c in self._checkpoints if c.metrics]
        best = max(validated, key=lambda c: (c.metrics[BEST_BY], c.step), default=None)
        return self.latest_step if best is None else best.step

    @property
    def latest_is_validated(self) -> bool:
        """Whether the newest checkpoint knows how good it is."""
        return any(c.metrics for c in self._checkpoints if c.step == self.latest_step)

    @property
    def _checkpoints(self) -> list[Any]:
        return [c for c in self._orbax.checkpoints if c.step in self._whole]

    def save(
        self,
        state: TrainState,
        data: grain.DatasetIterator,
        *,
        step: int,
        roc_auc: float | None,
        window: list[dict[str, float]],
    ) -> None:
        """Starts to save in the background; raises what went wrong in the previous save.

        Args:
          state, data: what training goes on from.
          step: how many steps that took; a checkpoint of as many is replaced.
          roc_auc: by validation; None where there was none.
          window: the scalars of the steps since the last record.
        """
        self.wait()
        with _failure_explained(step):
            if (self._folder / str(step)).exists():
                self._drop(step)  # Orbax would remove file by file.
            pending = self._orbax.save_checkpointables_async(
                step,
                {**_own(_parts(state)), "data": _Position(data)},
                overwrite=True,
                metrics=None if roc_auc is None else {BEST_BY: roc_auc},
                custom_metadata={"window": window},
            )
        self._saving = self._background.submit(self._finish, pending, step)

    def _finish(self, pending: Any, step: int) -> None:
        with _failure_explained(step):
            pending.result()
            checksums.seal(self._folder / str(step))
            self._whole.add(step)
            for old in self._whole - {*sorted(self._whole)[-NUM_LATEST:], self.best_step}:
                self._drop(old)

    def _drop(self, step: int) -> None:
        self._whole.discard(step)
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

    def restore(
        self, like: TrainState, data: grain.DatasetIterator
    ) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the newest state, shaped as `like`, and window; moves `data` to its position.

        The state is on one device, however many it came from.
        """
        parts = {**jax.tree.map(_abstract, _parts(sharding.local(like))), "data": _Position(data)}
        loaded = self._orbax.load_checkpointables(self.latest_step, parts)
        metadata = self._orbax.checkpointables_metadata(self.latest_step).custom_metadata or {}
        # Runs of earlier versions have no window.
        return TrainState(**loaded["network"], **loaded["training"]), metadata.get("window", [])

    def restore_network(self, params: PureDict, stats: PureDict) -> tuple[PureDict, PureDict, int]:
        """Returns the best parameters and statistics, shaped as the given ones, and their step.

        Raises:
          InputError: there is no checkpoint.
        """
        step = self.best_step
        if step is None:
            raise InputError(f"{self._orbax.directory} holds no checkpoint: train first")
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


@contextlib.contextmanager
def _alone() -> Iterator[Any]:
    """Gives Orbax a context in which it waits for no other process of a training."""
    if jax.process_count() == 1:
        yield None
        return
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"painterjax-{me}"
    )
    # As of 0.12.8 it refuses to look whether the folder is there, which it is.
    with mock.patch.object(checkpoint_manager, "_create_root_directory"):
        yield ocp.Context(multiprocessing_options=alone)


class _Position:
    """How Orbax keeps a place in a stream of batches: one number, for any number of processes."""

    NAME = "process_0-of-1.json"  # What Grain calls it; it has a file for each process.

    def __init__(self, data: grain.DatasetIterator) -> None:
        self._data = data

    async def save(self, directory: Any) -> Awaitable[None]:
        text = json.dumps(self._data.get_state(), indent=4)

        async def write() -> None:
            folder = await directory.await_creation()
            await asyncio.to_thread((folder / self.NAME).write_text, text)

        return write()

    async def load(self, directory: Any) -> Awaitable[None]:
        async def read() -> None:
            text = await asyncio.to_thread((directory / self.NAME).read_text)
            self._data.set_state(json.loads(text))

        return read()


@contextlib.contextmanager
def _failure_explained(step: int) -> Iterator[None]:
    """Turns what a save raises into an InputError of one line."""
    try:
        yield
    except Exception as error:  # Orbax and TensorStore raise what they like.
        reason = " ".join(str(error).split())
        raise InputError(
            f"the checkpoint of step {step} cannot be written ({reason}):"
            " mend that and run it again, earlier checkpoints are kept"
        ) from error


def _whole_steps(folder: Path, *, clean: bool) -> set[int]:
    """Returns the steps whose checkpoint has every byte that was saved; says which have not."""
    for path in folder.glob(f"*{DROPPED}") if clean else ():
        shutil.rmtree(path)
    path_by_step = {int(p.name): p for p in folder.glob("*") if p.name.isdecimal()}
    sealed = {step for step, path in path_by_step.items() if checksums.is_sealed(path)}
    if path_by_step and not sealed:
        print(f"{folder}: no checkpoint has checksums; none is checked", file=sys.stderr)
        for path in path_by_step.values() if clean else ():
            checksums.seal(path)  # Otherwise it would look cut short beside the next one.
        return set(path_by_step)
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
        if path_by_step[step].exists():  # Otherwise a training has dropped it meanwhile.
            _say_damaged(path_by_step[step], damage_by_step[step], rename=clean)
    for step in cut_short if clean else ():
        shutil.rmtree(path_by_step[step])
    return whole


def _damage(path: Path) -> dict[str, str]:
    try:
        return checksums.damage(path)
    except OSError as error:
        name = Path(error.filename or path / checksums.NAME)
        return {name.relative_to(path).as_posix(): f"cannot be read: {error.strerror}"}


def _say_damaged(path: Path, damage: dict[str, str], *, rename: bool) -> None:
    name, what = min(damage.items())
    print(f"{path} is damaged ({name} {what}): another checkpoint is taken", file=sys.stderr)
    if rename:
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)


def _parts(state: TrainState) -> dict[str, Any]:
    return {
        "network": {"params": state.params, "stats": state.stats},
        "training": {"proxies": state.proxies, "moments": state.moments, "step": state.step},
    }


def _own(tree: Any) -> Any:
    """What Orbax saves of replicated arrays; of one process among several, NumPy alone."""
    tree = sharding.local(tree)
    return tree if jax.process_count() == 1 else jax.device_get(tree)


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
