"""Checkpoints of a run through Orbax: the latest two and the best one by validation."""

import concurrent.futures
import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint.experimental.v1 as ocp

from painterjax import checksums
from painterjax.errors import InputError
from painterjax.step import PureDict, TrainState

BEST_BY = "roc_auc"  # Of the validation split; larger is better.
NUM_LATEST = 2


class Checkpoints:
    """The checkpoints of one run folder, each in `checkpoints/<step>`.

    A checkpoint holds `network` (parameters and BatchNorm statistics), `training` (proxies,
    optimizer and step), `data` (the position in the stream of batches) and, as metadata, the
    scalars that no record has yet. Saves go on in the background while training does, and end with
    the SHA-256 of all files. The folder of a save that was cut short is ignored, as is, with a line
    that says so, one of which a byte has changed.

    Args:
      run: the run folder.
      clean: whether to remove what was cut short, and to rename what has changed to
        `<step>.damaged`; only for the one that saves.

    Raises:
      InputError: there are checkpoints, and all are damaged.
    """

    def __init__(self, run: Path, *, clean: bool = False) -> None:
        policies: Any = ocp.training.preservation_policies  # Its protocols contradict each other.
        keep = policies.AnyPreservationPolicy(
            [
                policies.LatestN(NUM_LATEST),
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[BEST_BY],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        # Orbax logs what it raises as well, with tracebacks.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = run / "checkpoints"
        self._whole = _whole_steps(self._folder, clean=clean)
        self._orbax: Any = ocp.training.Checkpointer(
            str(self._folder.resolve()),
            preservation_policy=keep,
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
            pending = self._orbax.save_checkpointables_async(
                step,
                {**_parts(state), "data": data},
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
        """Returns the newest state, shaped as `like`, and window; moves `data` to its position."""
        parts = {**jax.tree.map(_abstract, _parts(like)), "data": data}
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
    path_by_step = {int(p.name): p for p in folder.glob("*") if p.name.isdecimal()}
    sealed = {step for step, path in path_by_step.items() if checksums.is_sealed(path)}
    if path_by_step and not sealed:
        print(f"{folder}: no checkpoint has checksums; none is checked", file=sys.stderr)
        for path in path_by_step.values() if clean else ():
            checksums.seal(path)  # Otherwise it would look cut short beside the next one.
        return set(path_by_step)
    damage_by_step = {step: _damage(path_by_step[step]) for step in sealed}
    whole = {step for step, damage in damage_by_step.items() if not damage}
    if sealed and not whole:
        raise InputError(
            f"all checkpoints in {folder} are damaged: bring back a copy, or begin another run"
        )
    for step in path_by_step.keys() - whole:
        damage = damage_by_step.get(step, {})
        # What Orbax was removing is older than what it had saved, and lacks files.
        superseded = step < max(whole) and set(damage.values()) <= {"is missing"}
        if damage and not superseded:
            _say_damaged(path_by_step[step], damage, rename=clean)
        elif clean:
            shutil.rmtree(path_by_step[step])  # Its save, or its removal, was cut short.
    return whole


def _damage(path: Path) -> dict[str, str]:
    try:
        return checksums.damage(path)
    except FileNotFoundError:  # Meanwhile a training has removed it.
        return {checksums.NAME: "is missing"}


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


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
