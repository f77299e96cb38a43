"""Looks a painting up in an index: its neighbors, under filters, with probabilities."""

import dataclasses
import difflib
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from painterjax.common import files
from painterjax.common.config import flatten
from painterjax.common.errors import InputError
from painterjax.data import catalog, images
from painterjax.data.store import Store, open_store
from painterjax.index.index import Index, IndexedPainting
from painterjax.metrics.calibration import Calibration
from painterjax.model.embedder import Embedder
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder

SUGGESTED = 5  # values instead of one that the index does not know
# What the origins of vectors that can be compared have in common.
SAME_RUN = ("step", "config_sha256")


def own_index(run: Path, embedder: Embedder, origin: dict[str, Any]) -> Index:
    """Returns the index of a run's whole store in RUN/index, made where it is not there yet."""
    folder, building = run / "index", run / "index.partial"
    index = Index(folder)
    if len(index) and _is_of_store(index, run, origin):
        return index
    vectors_there = building / f"step-{origin['step']}"
    vectors_there.mkdir(parents=True, exist_ok=True)
    with files.claimed(building):
        shutil.rmtree(building / "index", ignore_errors=True)
        for embedded in run_embed.store_vectors(run, embedder, origin, partial=vectors_there):
            Index(building / "index").add(embedded)
        shutil.rmtree(folder, ignore_errors=True)  # Of an earlier state of the run.
        (building / "index").rename(folder)
    shutil.rmtree(building, ignore_errors=True)
    return Index(folder)


def _is_of_store(index: Index, run: Path, origin: dict[str, Any]) -> bool:
    """Whether an index has every painting of a run's store by its row, and no other."""
    dataset = run_folder.read_dataset(run)
    known = flatten(dataset)  # It may be damaged: then the store is refused.
    counts = {name: known.get(f"counts.{name}.paintings", 0) for name in catalog.SPLITS}
    expected = [(name, dataset.get("sha256")) for name, count in counts.items() if count]
    found = [(each.get("split"), each.get("store_sha256")) for each in index.origins]
    same_run = all(index.facts[name] == str(origin[name]) for name in SAME_RUN)
    return same_run and found == expected and len(index) == sum(counts.values())


def nearest(
    index: Index, emb_D: np.ndarray, k: int, *, among_N: np.ndarray | None, skipped: int | None
) -> list[tuple[float, int]]:
    """Returns distance and number of the k nearest paintings, without the one `skipped`."""
    distance_R, number_R = index.nearest(emb_D, k + (skipped is not None), among_N=among_N)
    found = zip(distance_R.tolist(), number_R.tolist(), strict=True)
    return [(distance, number) for distance, number in found if number != skipped][:k]


def describe(
    index: Index,
    entry: IndexedPainting,
    distance: float,
    *,
    run: Path,
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Returns what a user wants to know of a painting that was found."""
    probability = None
    if calibration is not None:
        probability = float(calibration.probability(distance))
    return {
        "id": entry.id,
        "distance": distance,
        "probability": probability,
        **dataclasses.asdict(entry.painting),
        "image": str(picture(index, entry, run)),
    }


def filtered(
    index: Index, entry: IndexedPainting | None, *, without_artist: bool, **wanted: str | None
) -> np.ndarray | None:
    """Returns which paintings filters leave, by number; None where there is no filter.

    Args:
      index: the index.
      entry: the painting that is asked about; None where it is not of the index.
      without_artist: whether its artist's paintings are left out.
      **wanted: the artist, style or century that paintings are to have.

    Raises:
      InputError: the index has no painting of a wanted value, or paintings by the artist are to be
        left out, and it knows none.
    """
    values = {key: _known(index, key, text) for key, text in wanted.items() if text is not None}
    if not without_artist:
        return index.find(**values) if values else None
    if entry is None or not entry.painting.artist:
        raise InputError("--other-artists needs a --query whose artist the index knows")
    others_N = ~index.find(artist=entry.painting.artist)
    return others_N & index.find(**values) if values else others_N


def _known(index: Index, column: str, text: str) -> str:
    """The value of a column that is meant: as the index writes it, but for capitals."""
    if index.has(column, text):
        return text
    values = index.values(column)
    by_folded = {value.casefold(): value for value in values}
    folded = text.casefold()
    if folded in by_folded:
        return by_folded[folded]
    within = [value for key, value in by_folded.items() if folded in key]
    alike = difflib.get_close_matches(folded, by_folded, n=SUGGESTED, cutoff=0.5)
    near = list(dict.fromkeys([*within, *(by_folded[key] for key in alike)]))[:SUGGESTED]
    told = f"near it: {', '.join(near)}" if near else f"it has {', '.join(values[:SUGGESTED])}"
    if not near and len(values) > SUGGESTED:
        told += f" and {len(values) - SUGGESTED} more"
    raise InputError(
        f"{column} {text!r} is of no painting of the index; {told if values else 'it knows none'}"
    )


def picture(index: Index, entry: IndexedPainting, run: Path) -> Path:
    """Returns the file that shows a painting: its own, or a thumbnail from its store.

    There is no file where it, or the store, is gone since.
    """
    if "images" in entry.origin:
        return Path(entry.origin["images"]).absolute() / entry.painting.file
    path = (index.folder / "thumbnails" / f"{entry.id}.png").absolute()
    store = None if path.exists() else _store(index.folder, run, entry.origin["store"])
    if store is not None and store.info["sha256"] == entry.origin.get("store_sha256"):
        split = store.splits[entry.origin["split"]]
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        Image.fromarray(split.image_NxSxSxC[entry.position]).save(temporary, "PNG")
        temporary.replace(path)
    return path


@functools.cache
def _store(folder: Path, run: Path, path: str) -> Store | None:
    """The store of an index's paintings: the run's in its own index, which may have moved."""
    try:
        return run_folder.open_store_of(run) if folder == run / "index" else open_store(path)
    except InputError:
        return None


def check_same_run(what: str, facts: dict[str, Any], origin: dict[str, Any]) -> None:
    for name in SAME_RUN:
        if str(facts[name]) != str(origin[name]):
            raise InputError(
                f"{what} is of {name} {facts[name]}, the run of {origin[name]}:"
                " embed again, and add that to another --index"
            )


def embedding(
    query: str, index: Index, embedder: Embedder
) -> tuple[np.ndarray, IndexedPainting | None]:
    """Returns the embedding of an image file, or of a painting of the index, and its entry."""
    path = Path(query)
    if path.is_file():
        try:
            image_SxSxC = images.decode(images.read(path), size=embedder.image_size)
        except images.ImageError as error:
            raise InputError(f"--query {query}: {error}") from error
        return embedder.embed(image_SxSxC[None])[0], None
    numbers = [int(query)] if query.isdecimal() else np.flatnonzero(index.find(file=query)).tolist()
    if not numbers:
        raise InputError(f"--query {query}: no such file, nor a painting of {index.folder}")
    return index.embedding(index.entry(numbers[0]).id), index.entry(numbers[0])
