"""Vectors of any program, in a file, by the splits of a store whose paintings they are of."""

from pathlib import Path

import numpy as np

from painterjax.common.errors import InputError, words_of
from painterjax.data.catalog import JUDGED
from painterjax.data.store import Store
from painterjax.run import embeddings


def read(path: Path, store: Store, splits: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the vectors of each split that a file has whole.

    Args:
      path: a `.npz` or `.parquet` that `embed` wrote, or a `.npy` with a row for each painting.
      store: of the paintings.
      splits: those that are wanted; of two that a `.npy` fits, it is taken for this one.

    Raises:
      InputError: the file is of another kind, or has no split whole.
    """
    if path.suffix in (".npz", ".parquet"):
        found = embeddings.load(path)
        row_by_file = {painting.file: row for row, painting in enumerate(found.paintings)}
        return _vectors_by_file(found.emb_NxD, row_by_file, store)
    try:
        loaded = np.lib.format.open_memmap(path, mode="r")  # Refuses pickles, and what is no .npy.
    except embeddings.UNREADABLE as error:
        raise InputError(
            f"--embeddings {path} cannot be read ({words_of(error)}): choose another"
        ) from error
    is_table = loaded.ndim == 2 and loaded.shape[1] > 0 and loaded.dtype.kind in "fiu"
    with np.errstate(over="ignore"):
        emb_NxD = loaded.astype(np.float32) if is_table else np.array(np.nan)
    if not np.isfinite(emb_NxD).all():
        found = f"{loaded.dtype} {loaded.shape}"
        raise InputError(f"--embeddings {path} holds {found}: must be N x D finite numbers")
    lengths = {name: len(split) for name, split in store.splits.items()}
    if len(emb_NxD) == sum(lengths.values()):
        ends = np.cumsum(list(lengths.values()))
        return dict(zip(lengths, np.split(emb_NxD, ends[:-1]), strict=True))
    fitting = [name for name in JUDGED if lengths[name] == len(emb_NxD)]
    if len(fitting) > 1 and len(splits) == 1:
        fitting = list(splits)
    if len(fitting) == 1:
        return {fitting[0]: emb_NxD}
    if fitting:
        raise InputError(
            f"--embeddings {path} has {len(emb_NxD)} vectors, as many as both val and test of"
            f" {store.path} have paintings: --split says which they are of"
        )
    expected = ", ".join(f"{length} in {name}" for name, length in lengths.items())
    raise InputError(
        f"--embeddings {path} has {len(emb_NxD)} vectors, {store.path} has {expected} paintings:"
        " give one for each painting of all splits, or of val or test"
    )


def _vectors_by_file(
    emb_NxD: np.ndarray, row_by_file: dict[str, int], store: Store
) -> dict[str, np.ndarray]:
    found = {}
    for name in ("train", *JUDGED):
        rows = [row_by_file.get(painting.file, -1) for painting in store.splits[name].paintings]
        if rows and min(rows) >= 0:
            found[name] = emb_NxD[rows]
    if not found.keys() & set(JUDGED):
        raise InputError(f"--embeddings has no split of {store.path} whole: embed it again")
    return found
