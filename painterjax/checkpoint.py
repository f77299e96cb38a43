"""Checkpoints of a run through Orbax: the latest two and the best one by validation."""

from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint.experimental.v1 as ocp

from painterjax.errors import InputError
from painterjax.step import PureDict, TrainState

BEST_BY = "roc_auc"  # Of the validation split; larger is better.
NUM_LATEST = 2


class Checkpoints:
    """The checkpoints of one run folder, each in `checkpoints/<step>`.

    A checkpoint holds `network` (parameters and BatchNorm statistics), `training` (proxies,
    optimizer and step) and `data` (the position in the stream of batches). Saves go on in the
    background while training does; the folder of a save that was cut short is ignored.

    Args:
      run: the run folder.
      clean: whether to remove what was cut short; only for the one that saves.
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
        self._orbax: Any = ocp.training.Checkpointer(
            str((run / "checkpoints").resolve()),
            preservation_policy=keep,
            cleanup_tmp_directories=clean,
        )
        self._pending: Any = None

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return None if self._orbax.latest is None else self._orbax.latest.step

    @property
    def best_step(self) -> int | None:
        """The step with the best validation; the newest where none was validated; or None."""
        validated = [c for c in self._orbax.checkpoints if c.metrics]
        best = max(validated, key=lambda c: (c.metrics[BEST_BY], c.step), default=None)
        return self.latest_step if best is None else best.step

    def save(
        self, state: TrainState, data: grain.DatasetIterator, *, step: int, roc_auc: float | None
    ) -> None:
        """Starts to save in the background; raises what went wrong in the previous save."""
        self.wait()
        self._pending = self._orbax.save_checkpointables_async(
            step,
            {**_parts(state), "data": data},
            metrics=None if roc_auc is None else {BEST_BY: roc_auc},
        )

    def wait(self) -> None:
        """Waits for the save that is under way and raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, like: TrainState, data: grain.DatasetIterator) -> TrainState:
        """Returns the newest state, shaped as `like`, and moves `data` to its position."""
        parts = {**jax.tree.map(_abstract, _parts(like)), "data": data}
        loaded = self._orbax.load_checkpointables(self.latest_step, parts)
        return TrainState(**loaded["network"], **loaded["training"])

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
        self.wait()
        self._orbax.close()


def _parts(state: TrainState) -> dict[str, Any]:
    return {
        "network": {"params": state.params, "stats": state.stats},
        "training": {"proxies": state.proxies, "moments": state.moments, "step": state.step},
    }


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
