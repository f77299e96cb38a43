"""A run, opened once and passed whole: its config, best network, store and calibration."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.data.store import Store
from painterjax.metrics.attribution import Attribution
from painterjax.metrics.calibration import Calibration
from painterjax.model import trainable
from painterjax.model.build import arrays_sha256
from painterjax.model.embedder import Embedder, untrained
from painterjax.run import config_checks
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.run.lineage import Lineage
from painterjax.run.lineage import read as read_lineage

T = TypeVar("T")
NETWORK = "network_sha256"  # The key of an origin that vectors of one network have in common.


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
      path: the run folder.
      config: every key that it was trained with.
      embedder: the network of the best checkpoint.
      origin: which network that is: `run`, `step`, the `decoding` of the images that it was
        trained on, and `network_sha256` of all that embeddings depend on.
      calibration: from distances to probabilities; None where this step was not evaluated.
      attribution: from embeddings to probabilities of artists; None where it was not evaluated.
    """

    path: Path
    config: Config
    embedder: Embedder
    origin: dict[str, Any]
    calibration: Calibration | None
    attribution: Attribution | None

    @property
    def step(self) -> int:
        """The step of the best checkpoint."""
        return self.origin["step"]

    @functools.cached_property
    def store(self) -> Store:
        """The store that the run was trained on; raises InputError where it is gone or changed."""
        return run_folder.open_store_of(self.path)

    @functools.cached_property
    def lineage(self) -> Lineage:
        """Where its first weights come from; raises InputError where that is not known."""
        return read_lineage(self.path)

    @property
    def artists_trained_on(self) -> set[str]:
        """The artists of train and val, and those that its first weights were trained on."""
        splits = self.store.splits
        return {*splits["train"].artists, *splits["val"].artists, *self.lineage.artists}

    @property
    def is_trained(self) -> bool:
        """Whether it is more than a published backbone."""
        return True

    def stores_trained_on(self) -> list[Store]:
        """Opens its store and those that its first weights were trained on.

        Raises:
          InputError: one is gone or changed.
        """
        return [self.store, *self.lineage.open_stores(self.store)]

    def needed_calibration(self) -> Calibration:
        """Returns the calibration; raises InputError where there is none."""
        return self._evaluated(self.calibration, "has no calibration")

    def needed_attribution(self) -> Attribution:
        """Returns the attribution; raises InputError where there is none."""
        return self._evaluated(self.attribution, "cannot tell artists yet")

    def _evaluated(self, fitted: T | None, lack: str) -> T:
        if fitted is None:
            raise InputError(
                f"{self.path} {lack}: run python -m painterjax.evaluate"
                f" --run {self.path} on a store whose validation split has two artists with two"
                " paintings each"
            )
        return fitted

    def check_decoding(self) -> None:
        """Raises InputError where new images would get other pixels than the run's store has."""
        images.check_decoding(self.path, self.origin["decoding"])

    def check_same_network(self, what: str, origin: Mapping[str, Any]) -> None:
        """Raises InputError where vectors, named `what`, are of another network than this one."""
        check_same_network(what, origin, self.origin)


def check_same_network(what: str, origin: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises InputError where vectors, named `what`, are of another network than expected."""
    if origin.get(NETWORK) != expected[NETWORK]:
        raise InputError(
            f"{what} is of another network ({NETWORK} is {origin.get(NETWORK)}, this run has"
            f" {expected[NETWORK]}): embed again, or choose another file"
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
    config_checks.check_keys(config, of=path)
    size = run_folder.read_image_size(path)
    config_checks.check(config, image_size=size)
    config.model.weights = run_folder.find_weights(path, config.model.weights)
    needs_published = not trainable.changes_all(config)
    if needs_published:
        run_folder.check_weights(path, config)
    start = untrained(config, image_size=size, pretrained=needs_published)
    with contextlib.ExitStack() as stack:
        if checkpoints is None:
            checkpoints = stack.enter_context(contextlib.closing(Checkpoints(path)))
        trained, _ = trainable.divide(config, start.arrays)
        params, stats, step = checkpoints.restore_network(**trained)
    embedder = start.with_arrays(params, stats)
    decoding = images.decoding_of(run_folder.read_dataset(path))
    sha256 = network_sha256(config, embedder, decoding)
    evaluation = run_folder.read_evaluation(path, sha256)
    return Run(
        path=path,
        config=config,
        embedder=embedder,
        origin={"run": str(path), "step": step, "decoding": decoding, NETWORK: sha256},
        calibration=_calibration(evaluation),
        attribution=_attribution(evaluation),
    )


def network_sha256(config: Config, embedder: Embedder, decoding: int) -> str:
    """Returns the SHA-256 of weights, architecture and preprocessing."""
    model = {**config.to_dict()["model"], "weights": ""}  # Not the name of a file.
    del model["remat"]  # Which changes no embedding.
    settings = {
        "model": model,
        "image_size": embedder.image_size,
        "decoding": decoding,
    }
    return arrays_sha256(embedder.arrays, settings)


def _calibration(evaluation: dict[str, Any]) -> Calibration | None:
    try:
        return Calibration(**{k: float(v) for k, v in evaluation["calibration"].items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _attribution(evaluation: dict[str, Any]) -> Attribution | None:
    try:
        numbers = dict(evaluation["attribution"])
        mean = list(map(float, numbers.pop("mean")))
        return Attribution(mean, **{k: float(v) for k, v in numbers.items()})
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
