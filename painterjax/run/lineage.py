"""Where a run's first weights come from, and what these were trained on: init_from.json."""

import dataclasses
from pathlib import Path
from typing import Any

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data.store import Store, open_store

NAME = "init_from.json"


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The network that a run began from, and what that and its own ancestors were trained on.

    All is empty for a run that began without --init-from.
    """

    run: str = ""
    network_sha256: str = ""
    artists: tuple[str, ...] = ()  # of the train splits, sorted
    stores: tuple[dict[str, Any], ...] = ()  # `path`, and `sha256` of the files as in dataset.json

    def with_store(self, store: Store) -> dict[str, list[Any]]:
        """Returns artists and stores of a run that begins from one that was trained on a store."""
        own = {"path": str(store.path.resolve()), "sha256": store.sha256}
        others = [each for each in self.stores if each["sha256"] != own["sha256"]]
        artists = sorted({*self.artists, *store.splits["train"].artists})
        return {"artists": artists, "stores": [own, *others]}

    def open_stores(self, own: Store) -> list[Store]:
        """Opens the stores, except that of the run itself.

        Raises:
          InputError: one is gone or changed.
        """
        sha256 = own.sha256
        return [_open_again(each) for each in self.stores if each["sha256"] != sha256]


def read(run: Path) -> Lineage:
    """Reads init_from.json.

    Raises:
      InputError: it is damaged, or of an earlier version, which did not say what was trained on.
    """
    path = run / NAME
    if not path.exists():
        return Lineage()
    try:
        found = files.read_json(path)
        return Lineage(
            str(found["run"]),
            str(found["network_sha256"]),
            tuple(str(artist) for artist in found["artists"]),
            tuple({"path": str(s["path"]), "sha256": s["sha256"]} for s in found["stores"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or of an earlier version ({error!r}): bring it back, or train anew"
        ) from error


def _open_again(recorded: dict[str, Any]) -> Store:
    path = Path(recorded["path"])
    is_there = (path / "dataset.json").is_file()
    if not is_there or (store := open_store(path)).sha256 != recorded["sha256"]:
        raise InputError(
            f"training began from weights that were trained on the store {path}, where"
            f" {'another is now' if is_there else 'none is now'}: bring it back"
        )
    return store
