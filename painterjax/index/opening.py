"""Opens an index: that of a folder, or a run's own, which is built of its store."""

import shutil
from pathlib import Path

from painterjax.common import files
from painterjax.common.config import flatten
from painterjax.common.errors import InputError
from painterjax.data import catalog
from painterjax.data.store import identity
from painterjax.index.index import Index
from painterjax.run import folder as run_folder
from painterjax.run.embed import compute_embeddings, kept_embeddings
from painterjax.run.load import NETWORK, Run


def open_index(run: Run, folder: Path | None) -> Index:
    """Opens the index in a folder, or that of the run's store where it is None.

    Raises:
      InputError: there is no index in the folder, or it is of another network.
    """
    index = Index(folder) if folder else own_index(run)
    if not len(index):
        raise InputError(
            f"--index {index.folder} is not an index: make one with painterjax.search --add"
        )
    run.check_same_network(str(index.folder), index.facts)
    return index


def own_index(run: Run) -> Index:
    """Returns the index of a run's whole store in RUN/index, which is built if it is missing."""
    folder, building = run.path / "index", run.path / "index.partial"
    if _is_of_store(index := Index(folder), run):
        return index
    _ = run.store  # Refuses where there is none, before anything is written.
    with files.claimed(building):
        if not _is_of_store(Index(folder), run):  # Another process may have built it meanwhile.
            work = building / run.origin[NETWORK]
            work.mkdir(exist_ok=True)
            shutil.rmtree(building / "index", ignore_errors=True)
            for name in (name for name in catalog.SPLITS if len(run.store.splits[name])):
                embedded = kept_embeddings(run, name) or compute_embeddings(run, name, work=work)
                Index(building / "index").add(embedded)
            shutil.rmtree(folder, ignore_errors=True)  # of another network
            (building / "index").rename(folder)
        shutil.rmtree(building, ignore_errors=True)  # Another process may be doing so as well.
    return Index(folder)


def _is_of_store(index: Index, run: Run) -> bool:
    """Whether an index has every painting of a run's store by its row, and no other."""
    if not len(index):
        return False
    dataset = identity(run_folder.read_dataset(run.path))
    known = flatten(dataset)  # A damaged file lacks keys: then opening the store is refused.
    counts = {name: known.get(f"counts.{name}.paintings", 0) for name in catalog.SPLITS}
    expected = [(name, dataset.get("sha256")) for name, count in counts.items() if count]
    found = [(origin.get("split"), origin.get("store_sha256")) for origin in index.origins]
    same_network = index.facts[NETWORK] == run.origin[NETWORK]
    return same_network and found == expected and len(index) == sum(counts.values())
