"""The papers of a run folder: which config, store and machine a run was begun with."""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from painterjax.common import files
from painterjax.common.config import Config, as_config, as_json, changes
from painterjax.common.errors import InputError, words_of
from painterjax.data import images, store
from painterjax.model.backbones import weights_sha256
from painterjax.run.config_rules import RULES

PACKAGES = ("painterjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def check(run: Path, config: Config, opened: store.Store) -> None:
    """Raises InputError where a folder is no run, or one that was begun otherwise.

    A new run takes only stores that were decoded as today; one that was begun may go on.
    """
    check_folder(run)
    check_same(run, "config", config.to_dict())
    check_same(run, "dataset", opened.info)
    check_weights(run, config)
    if not (run / "config.json").exists():
        images.check_decoding(opened.path, images.decoding_of(opened.info))


def check_same(run: Path, name: str, asked: dict[str, Any]) -> None:
    """Raises InputError where a run was begun with another "config" or "dataset" than asked for.

    A config may differ where the rules of its keys allow it.
    """
    path = run / f"{name}.json"
    if not path.exists():
        return
    was, now = _read_json(path), as_json(asked)
    if name == "dataset":
        was, now = store.identity(was), store.identity(now)
    found = changes(was, now)
    if changed := {key: pair for key, pair in found.items() if not _may_become(key, *pair)}:
        differences = ", ".join(f"{key} was {was}, is {now}" for key, (was, now) in changed.items())
        raise InputError(
            f"{run} was begun with another {name} ({differences}):"
            " repeat that, or choose another --workdir"
        )


def _may_become(key: str, was: Any, now: Any) -> bool:
    """A key of the config by its rule; one of another version, or of a dataset, has none."""
    try:
        return key in RULES and RULES[key].may_become(was, now)
    except TypeError:  # A run's file may hold anything.
        return False


def check_folder(run: Path) -> None:
    """Raises InputError where a folder is no run and holds something else."""
    if not run.is_dir() or (run / "config.json").exists():
        return
    # What a start that was killed at once leaves, and what systems put anywhere.
    known = {run / "lock", run / "lost+found", *run.glob("config.json.*.tmp"), *run.glob(".*")}
    known |= {*run.glob("init_from.json*"), *run.glob("weights.json*")}
    others = {path.name for path in run.iterdir()} - {path.name for path in known}
    if others:
        raise InputError(
            f"{run} holds {min(others)} and is no run: choose another --workdir, or bring back the"
            " run's config.json"
        )


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Keeps a run folder, made where it is missing, from other processes; leaves none empty.

    Raises:
      InputError: another process works in the folder.
    """
    try:
        with files.claimed(run):
            yield
    finally:
        if [path.name for path in run.glob("*")] == ["lock"]:
            (run / "lock").unlink()
            run.rmdir()


def check_weights(run: Path, config: Config) -> None:
    """Raises InputError where the published weights are others than those that a run began with."""
    path = run / "weights.json"
    was = _read_json(path)["sha256"] if path.exists() else ""
    if was and was != (now := weights_sha256(config.model)):
        raise InputError(
            f"{run} was begun with weights of {config.model.backbone} whose SHA-256 is {was}, those"
            f" at hand have {now}: bring them back, or train again"
        )


def begin(
    run: Path, config: Config, dataset: dict[str, Any], *, init_from: dict[str, Any] | None = None
) -> None:
    """Writes config.json, dataset.json, environment.json, and what the first weights come from.

    Where the run has them, they stay as they are unless the config has changed, which is said.

    Args:
      run: the run folder.
      config: every key.
      dataset: the store's dataset.json.
      init_from: the origin of the weights that the run starts from.

    Raises:
      InputError: another process has begun the run with another config or store.
    """
    check_same(run, "config", config.to_dict())
    check_same(run, "dataset", dataset)
    is_begun = (run / "config.json").exists()
    changed = (
        changes(_read_json(run / "config.json"), as_json(config.to_dict())) if is_begun else {}
    )
    for key, (was, now) in changed.items():
        print(f"train: goes on with {key} {now} instead of {was}", file=sys.stderr)
    began = read_environment(run).get("begun", datetime.now(UTC).isoformat(timespec="seconds"))
    environment_now = {"begun": began, **environment(), "directory": str(Path.cwd())}
    # In this order: what has a config.json has an init_from.json, or began without.
    papers = {"init_from": init_from} if init_from else {}
    if published := weights_sha256(config.model):
        papers["weights"] = {"backbone": config.model.backbone, "sha256": published}
    papers |= {"config": config.to_dict(), "dataset": dataset, "environment": environment_now}
    for name, paper in papers.items():
        if changed or not (run / f"{name}.json").exists():
            files.write_json(run / f"{name}.json", paper)


def read_config(run: Path) -> Config:
    """Returns the config that a run was begun with; raises InputError where there is none."""
    found = _read_json(run / "config.json")
    try:
        return as_config(found)
    except ValueError as error:  # A key with a dot.
        raise InputError(
            f"{run}/config.json is damaged ({words_of(error)}): train again"
        ) from error


def find_weights(run: Path, weights: str) -> str:
    """Returns where a run's file of published weights is: from here, or where training began."""
    began = _directory(run) / weights
    return str(began) if weights and not Path(weights).exists() and began.exists() else weights


def read_dataset(run: Path) -> dict[str, Any]:
    """Returns what a run knows of its store; raises InputError where there is no run."""
    return _read_json(run / "dataset.json")


def open_store_of(run: Path) -> store.Store:
    """Opens the store that a run was begun with.

    A relative path in its config leads there from here, or from where the training began.

    Raises:
      InputError: it is at neither place, or is another now.
    """
    given = Path(read_config(run).data.store)
    places = list(dict.fromkeys([given, _directory(run) / given]))
    found = [place for place in places if (place / "dataset.json").is_file()]
    if not found:
        raise InputError(
            f"no store at {' nor at '.join(map(str, places))}: go to the folder that {given} is"
            " seen from, or prepare it again"
        )
    dataset = store.identity(read_dataset(run))
    same = [
        place for place in found if store.identity(_read_json(place / "dataset.json")) == dataset
    ]
    opened = store.open_store((same or found)[0])
    check_same(run, "dataset", opened.info)
    return opened


def _directory(run: Path) -> Path:
    """Where the training began, as far as it is known."""
    directory = read_environment(run).get("directory")
    return Path(directory if isinstance(directory, str) else "")


def read_image_size(run: Path) -> int:
    """Returns the side of a run's images; raises InputError where there is no run."""
    size = read_dataset(run).get("image_size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(f"{run}/dataset.json is damaged (image_size is {size!r}): train again")
    return size


def read_evaluation(run: Path, network_sha256: str) -> dict[str, Any]:
    """Returns evaluation.json; empty where it is missing, damaged, or of another network."""
    try:
        evaluation = files.read_json(run / "evaluation.json")
    except (OSError, ValueError):
        return {}
    return evaluation if evaluation.get("network_sha256") == network_sha256 else {}


def read_environment(run: Path) -> dict[str, Any]:
    """Returns when, where and with what a run was begun; empty where that is not known."""
    try:
        return dict(files.read_json(run / "environment.json"))
    except (OSError, TypeError, ValueError):
        return {}


def environment() -> dict[str, Any]:
    """Returns what ran: the versions of Python and packages, the hardware, and the commit.

    A commit that ends in "+" was not all: tracked files had been changed since.
    """
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": {"platform": device.platform, "kind": device.device_kind},
        "devices": jax.device_count(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit that this file is of, or None outside a clone."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    try:
        named = subprocess.run([*git, "--exclude=*", "--dirty=+"], capture_output=True, text=True)
    except OSError:  # No git.
        return None
    return named.stdout.strip() or None


def _processor() -> str:
    """The processor's name; Linux keeps it where Python does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # painterjax itself runs without being installed.
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        message = f"no run at {path.parent} ({path.name}: {words}): make one with train"
        raise InputError(message) from error
