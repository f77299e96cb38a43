"""The pictures of an index's paintings: what the network sees of them, and what people see."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.data.store import Split, Store, open_store
from painterjax.index.database import IndexedPainting
from painterjax.index.index import Index
from painterjax.run.load import Run


def pixels(run: Run, index: Index, entry: IndexedPainting) -> np.ndarray | None:
    """Returns what the network sees of a painting of the index; None where that is gone."""
    if "images" not in entry.origin:
        split = _split(run, index, entry)
        return None if split is None else split.image_NxSxSxC[entry.position]
    path = Path(entry.origin["images"]) / entry.painting.file
    try:
        return images.decode(images.read(path), size=run.embedder.image_size)
    except images.ImageError:
        return None


def picture(run: Run, index: Index, entry: IndexedPainting) -> bytes | None:
    """Returns a painting as a JPEG file for people, the whole of it or else the square.

    None where its file or its store is gone.
    """
    if "images" not in entry.origin:
        split = _split(run, index, entry)
        return None if split is None else split.picture(entry.position)
    try:
        return images.to_picture(images.read(picture_file(run, index, entry)))
    except images.ImageError:
        return None


def picture_file(run: Run, index: Index, entry: IndexedPainting) -> Path:
    """Returns the file that shows a painting: its own, or one written from its store.

    The file is missing if the painting or its store has been removed.
    """
    if "images" in entry.origin:
        return Path(entry.origin["images"]).absolute() / entry.painting.file
    folder = index.folder / "thumbnails"
    paths = [(folder / f"{entry.id}.{ending}").absolute() for ending in ("jpg", "png")]
    if written := [path for path in paths if path.exists()]:
        return written[0]
    whole, square = paths
    split = _split(run, index, entry)
    if split is None:
        return square
    folder.mkdir(exist_ok=True)
    path = square if split.pictures is None else whole
    with files.replacing(path) as temporary:
        if split.pictures is None:
            Image.fromarray(split.image_NxSxSxC[entry.position]).save(temporary, "PNG")
        else:
            temporary.write_bytes(split.picture(entry.position))
    return path


def _split(run: Run, index: Index, entry: IndexedPainting) -> Split | None:
    """The split of a painting in its store, unless that has changed or been removed."""
    store = _store(run, index, entry)
    if store is None or store.sha256 != entry.origin.get("store_sha256"):
        return None
    return store.splits[entry.origin["split"]]


def _store(run: Run, index: Index, entry: IndexedPainting) -> Store | None:
    """The store of a painting; in a run's own index it is the run's, which may have moved."""
    try:
        is_own = index.folder == run.path / "index"
        return run.store if is_own else _open_store(entry.origin["store"])
    except InputError:
        return None


_open_store = functools.cache(open_store)
