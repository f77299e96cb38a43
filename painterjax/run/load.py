"""A run, opened once and passed whole: its config, best network, store and calibration."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data.store import Store
from painterjax.metrics.calibration import Calibration
from painterjax.model.embedder import Embedder, untrained
from painterjax.run import config_checks
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints

NETWORK = ("step", "config_sha256")  # What vectors of one network have in common.


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
      path: the run folder.
      config: every key that it was trained with.
      embedder: the network of the best checkpoint.
      origin: which network that is: `run`, `step` and `config_sha256`.
      calibration: from distances to probabilities; None where this step was not evaluated.
    """

    path: Path
    config: Config
    embedder: Embedder
    origin: dict[str, Any]
    calibration: Calibration | None

    @property
    def step(self) -> int:
        """The step of the best checkpoint."""
        return self.origin["step"]

    @functools.cached_property
    def store(self) -> Store:
        """The store that the run was trained on; raises InputError where it is gone or changed."""
        return run_folder.open_store_of(self.path)

    def needed_calibration(self) -> Calibration:
        """Returns the calibration; raises InputError where there is none."""
        if self.calibration is None:
            raise InputError(
                f"{self.path} has no calibration: run python -m painterjax.evaluate"
                f" --run {self.path} on a store whose validation split has two artists with two"
                " paintings each"
            )
        return self.calibration

    def check_same_network(self, what: str, origin: Mapping[str, Any]) -> None:
        """Raises InputError where vectors, named `what`, are of another network than this one."""
        for key in NETWORK:
            if str(origin.get(key)) != str(self.origin[key]):
                raise InputError(
                    f"{what} is of another network ({key} is {origin.get(key)}, this run has"
                    f" {self.origin[key]}): embed again, or choose another file"
                )


def load_run(path: Path, checkpoints: Checkpoints | None = None) -> Run:
    """Opens a run.

    Args:
      path: the run folder.
      checkpoints: its checkpoints where they are open; all processes of a training call it then.

    Raises:
      InputError: `path` is no run, is of another version, or has no checkpoint.
    """
    config = run_folder.read_config(path)
    config_checks.check_keys(config)
    size = run_folder.read_image_size(path)
    config_checks.check(config, image_size=size)
    start = untrained(config, image_size=size)
    with contextlib.ExitStack() as stack:
        if checkpoints is None:
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(path)))
        params, stats, step = checkpoints.restore_network(start.params, start.stats)
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()
    return Run(
        path=path,
        config=config,
        embedder=dataclasses.replace(start, params=params, stats=stats),
        origin={"run": str(path), "step": step, "config_sha256": digest},
        calibration=_calibration(run_folder.read_evaluation(path, step=step)),
    )


def _calibration(evaluation: dict[str, Any]) -> Calibration | None:
    try:
        return Calibration(**{k: float(v) for k, v in evaluation["calibration"].items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
