"""Answers a query from an index: filters, the nearest paintings, probabilities and pictures."""

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
from painterjax.data.catalog import Painting
from painterjax.data.columns import Paintings
from painterjax.data.store import Split, Store, identity, open_store
from painterjax.index.index import Index, IndexedPainting
from painterjax.model.embedder import embed_squares
from painterjax.run import folder as run_folder
from painterjax.run.embed import compute_embeddings, embed_folder, kept_embeddings
from painterjax.run.embeddings import SAME_IMAGE
from painterjax.run.load import NETWORK, Run

SUGGESTED = 5  # values to suggest for one that the index lacks


@dataclasses.dataclass(frozen=True)
class Query:
    """The embedding to look up, and its painting if it is one of the index.

    `image_SxSxC` is what the network sees of the middle of an image that was given as a file.
    """

    emb_D: np.ndarray
    entry: IndexedPainting | None
    image_SxSxC: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Filters:
    """The artist, style and century of the paintings to find; or all but the query's artist."""

    artist: str | None = None
    style: str | None = None
    century: str | None = None
    other_artists: bool = False


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """A painting that was found, and its distance from the query."""

    entry: IndexedPainting
    distance: float


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


def parse_query(text: str, index: Index, run: Run) -> Query:
    """Returns the query for an image file, or for a painting's number or file name in the index.

    A file with the same pixels as a painting of the index is that painting.
    """
    path = Path(text)
    if path.is_file():
        square_KxSxSxC = _decoded(run, path, "--query", squares_of(index))
        (emb_D,) = embed_squares(run.embedder, [square_KxSxSxC])
        center_SxSxC = square_KxSxSxC[len(square_KxSxSxC) // 2]
        return Query(emb_D, _same_picture(run, index, emb_D, center_SxSxC), center_SxSxC)
    numbers = [int(text)] if text.isdecimal() else np.flatnonzero(index.find(file=text)).tolist()
    if not numbers:
        raise InputError(
            f"--query {text} is neither a file nor a painting of {index.folder}: give an image, or"
            " a painting's number or file name there"
        )
    entry = index.entry(numbers[0])
    return Query(index.embedding(entry.id), entry)


def squares_of(index: Index) -> int:
    """Returns how many squares of a wide painting the vectors of an index are of, at most.

    One in a store, which keeps the center alone. Queries are embedded in the same way, so that a
    picture has one vector.
    """
    return min((origin.get("squares", 1) for origin in index.origins), default=1)


def embed_images(
    run: Run, index: Index, path: Path, output: Path, *, workers: int
) -> tuple[Paintings | list[Painting], np.ndarray]:
    """Embeds an image, or those below a folder into OUTPUT.npz, to be compared with an index.

    Returns:
      What the names of files and folders say of the images, and their embeddings.

    Raises:
      InputError: there is no image that can be read, or the run's store was decoded in another way.
    """
    squares = squares_of(index)
    if path.is_file():
        square_KxSxSxC = _decoded(run, path, "--images", squares)
        return [Painting(path.name, "")], embed_squares(run.embedder, [square_KxSxSxC])
    vectors = output.with_name(output.name + ".npz")
    embedded, _ = embed_folder(run, path, vectors, workers=workers, squares=squares)
    return embedded.paintings, embedded.emb_NxD


def _decoded(run: Run, path: Path, flag: str, squares: int) -> np.ndarray:
    run.check_decoding()
    try:
        image = images.open_image(images.read(path))
        return images.to_squares(image, size=run.embedder.image_size, most=squares)
    except images.ImageError as error:
        raise InputError(f"{flag} {path}: {error}") from error


def _same_picture(
    run: Run, index: Index, emb_D: np.ndarray, image_SxSxC: np.ndarray
) -> IndexedPainting | None:
    """The painting of the index that an image shows, to the pixel; None where there is none."""
    if len(index) and index.embedding(0).shape == emb_D.shape:  # Else the caller refuses it.
        distance_R, number_R = index.nearest(emb_D, SUGGESTED)
        near_R = distance_R <= SAME_IMAGE * np.linalg.norm(emb_D)
        for entry in index.entries(number_R[near_R].tolist()):
            pixels_SxSxC = pixels(run, index, entry)
            if pixels_SxSxC is not None and np.array_equal(pixels_SxSxC, image_SxSxC):
                return entry
    return None


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


def query_pixels(run: Run, index: Index, query: Query) -> np.ndarray:
    """Returns what the network sees of a query; raises InputError where its file is gone."""
    if query.image_SxSxC is not None:
        return query.image_SxSxC
    assert query.entry is not None, "of the index, if no file was given"
    image_SxSxC = pixels(run, index, query.entry)
    if image_SxSxC is None:
        raise InputError(f"{query.entry.painting.file} is gone: bring it back")
    return image_SxSxC


def pairs(run: Run, index: Index, query: Query, numbers: list[int]) -> np.ndarray:
    """Returns what the network sees of a query and of each painting: uint8 P x 2 x S x S x 3.

    Paintings that are gone are left out.
    """
    first_SxSxC = query_pixels(run, index, query)
    seconds = (pixels(run, index, entry) for entry in index.entries(numbers))
    return np.array([[first_SxSxC, each] for each in seconds if each is not None])


def answer(run: Run, index: Index, query: Query, k: int, filters: Filters) -> list[dict[str, Any]]:
    """Returns descriptions of the k nearest paintings that fit the filters, nearest first."""
    found = nearest(index, query, k, select(index, query, filters))
    return [describe(run, index, each.entry, each.distance) for each in found]


def select(index: Index, query: Query, filters: Filters) -> np.ndarray | None:
    """Returns whether each painting of the index fits the filters; None if there is no filter.

    Raises:
      InputError: the index has no painting with a wanted value, or the paintings of the query's
        artist are to be left out and the artist is unknown.
    """
    columns = ("artist", "style", "century")
    wanted = {name: value for name in columns if (value := getattr(filters, name)) is not None}
    selected_N = index.find(**wanted) if wanted else None
    if selected_N is not None and not selected_N.any():
        wanted = {name: _closest_value(index, name, value) for name, value in wanted.items()}
        selected_N = index.find(**wanted)
    if not filters.other_artists:
        return selected_N
    if query.entry is None or not query.entry.painting.artist:
        raise InputError("--other-artists needs a --query from the index whose artist is known")
    others_N = ~index.find(artist=query.entry.painting.artist)
    return others_N if selected_N is None else others_N & selected_N


def nearest(
    index: Index, query: Query, k: int, among_N: np.ndarray | None = None, *, first: int = 0
) -> list[Neighbor]:
    """Returns k of the selected paintings without the query's own: the nearest after `first`."""
    own = -1 if query.entry is None else query.entry.id
    distance_R, number_R = index.nearest(query.emb_D, first + k + (own >= 0), among_N=among_N)
    row_K = np.flatnonzero(number_R != own)[first : first + k]
    entries = index.entries(number_R[row_K].tolist())
    return [Neighbor(*each) for each in zip(entries, distance_R[row_K].tolist(), strict=True)]


def describe(run: Run, index: Index, entry: IndexedPainting, distance: float) -> dict[str, Any]:
    """Returns what the answer to a query says of a painting."""
    return {
        "id": entry.id,
        **distance_and_probability(run, distance),
        **dataclasses.asdict(entry.painting),
        "image": str(picture_file(run, index, entry)),
    }


def distance_and_probability(run: Run, distance: float) -> dict[str, float | None]:
    """Returns a distance, and the probability of one artist; None if there is no calibration."""
    probability = None
    if run.calibration is not None:
        probability = float(run.calibration.probability(distance))
    return {"distance": distance, "probability": probability}


def _closest_value(index: Index, column: str, text: str) -> str:
    """The value of a column that is meant, in any case; the refusal suggests similar values."""
    values = index.values(column)
    by_folded = {value.casefold(): value for value in values}
    folded = text.casefold()
    if text in values or folded in by_folded:
        return text if text in values else by_folded[folded]
    containing = [value for key, value in by_folded.items() if folded in key]
    similar = difflib.get_close_matches(folded, by_folded, n=SUGGESTED, cutoff=0.5)
    near = list(dict.fromkeys([*containing, *(by_folded[key] for key in similar)]))[:SUGGESTED]
    if near:
        hint = f"try {', '.join(near)}"
    elif values:
        more = len(values) - SUGGESTED
        hint = f"it has {', '.join(values[:SUGGESTED])}" + (f" and {more} more" if more > 0 else "")
    else:
        hint = f"it has no {column} of any painting"
    raise InputError(f"no painting of the index has the {column} {text!r}: {hint}")


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
