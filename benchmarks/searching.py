"""How an index grows to millions of vectors, and how well and how fast it finds the nearest.

    python -m benchmarks.searching [--paintings 10000000] [--batch 1000000] [--json FILE]

Vectors of 64 numbers lie around their artists' centers, as far from these as the centers from their
own mean, a hundred to an artist, and are added a batch at a time. Paintings of the index, and as
many strangers that were never added, then ask for their ten nearest, one at a time: of all; and
some of them of one other artist, of all other artists, and of one century. The answers are compared
with exact search over the vectors as they were before they were added. At last single paintings are
added.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.judging import peak_bytes
from painterjax.data.catalog import Painting
from painterjax.index import lookup
from painterjax.index.filters import Filters, select
from painterjax.index.index import Index
from painterjax.run import folder as run_folder
from painterjax.run.embeddings import Vectors

DIM = 64
PER_ARTIST = 100
CENTURIES = ("1401-1500", "1501-1600", "1601-1700", "1701-1800", "1801-1900", "1901-2000")
QUERIES, FILTERED_QUERIES = 256, 32
NEIGHBORS = 10
ORIGIN = {"run": "runs/random", "step": 0, "network_sha256": ""}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    collection = Collection(args.paintings, args.batch)
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "paintings": args.paintings,
            "dim": DIM,
            "add": added(Path(folder), collection),
            "search": searched(Path(folder), collection),
            "add_one": added_one(Path(folder), collection),
            "environment": {**run_folder.environment(), "faiss": faiss.__version__},
        }
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


class Collection:
    """Random paintings, the same each time that one looks."""

    def __init__(self, paintings: int, batch: int) -> None:
        rng, self.artists = np.random.default_rng(0), max(2, paintings // PER_ARTIST)
        self.starts, self.batch = range(0, paintings, batch), batch
        self.center_AxD = rng.standard_normal((self.artists, DIM), np.float32)
        self.century_A = rng.integers(len(CENTURIES), size=self.artists)
        self.artist_N = rng.integers(self.artists, size=paintings)

    def artists_from(self, start: int) -> np.ndarray:
        """Returns the artists of the batch that begins there."""
        return self.artist_N[start : start + self.batch]

    def around(self, artist_M: np.ndarray, seed: int) -> np.ndarray:
        """Returns a vector by each artist; a batch's seed is its start."""
        rng = np.random.default_rng([1, seed])
        emb_MxD = rng.standard_normal((len(artist_M), DIM), np.float32)
        emb_MxD += self.center_AxD[artist_M]
        return emb_MxD

    def vectors(self, start: int) -> Vectors:
        """Returns the batch that begins there."""
        artist_M = self.artists_from(start)
        years = [century[-4:] for century in CENTURIES]
        paintings = [
            Painting(f"{start + i}.jpg", f"artist {artist}", date=years[self.century_A[artist]])
            for i, artist in enumerate(artist_M.tolist())
        ]
        origin = {**ORIGIN, "images": f"nowhere/{start}"}
        return Vectors(self.around(artist_M, start), paintings, origin)


def added(folder: Path, collection: Collection) -> dict[str, Any]:
    """Adds all; returns what that took, and what was measured meanwhile."""
    passed_s = []
    for start in collection.starts:
        vectors = collection.vectors(start)
        started_s = time.perf_counter()
        Index(folder).add(vectors)
        passed_s.append(time.perf_counter() - started_s)
        print(f"{start + len(vectors.paintings)} paintings: {passed_s[-1]:.1f} s", flush=True)
    return {
        "minutes": sum(passed_s) / 60,
        "longest_s": max(passed_s),
        "peak_bytes": peak_bytes(),
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*")),
        "facts": Index(folder).facts,
    }


def added_one(folder: Path, collection: Collection) -> dict[str, float]:
    """Opens the index and adds a painting of a new folder, then one more of it; returns seconds."""
    emb_2xD = collection.around(collection.artist_N[:2], len(collection.artist_N) + 1)
    paintings = [Painting(f"more/{i}.jpg", "artist 0") for i in range(2)]
    passed_s = {}
    for name, count in (("of_new_folder_s", 1), ("of_known_folder_s", 2)):
        origin = {**ORIGIN, "images": "nowhere/more"}
        started_s = time.perf_counter()
        Index(folder).add(Vectors(emb_2xD[:count], paintings[:count], origin))
        passed_s[name] = time.perf_counter() - started_s
    print(passed_s, flush=True)
    return passed_s


@dataclasses.dataclass(frozen=True)
class Filter:
    """The filters of a query by an artist, and which artists' paintings fit them.

    One artist and one century are those of the next artist: not where the query itself lies.
    """

    asked: Callable[[Collection, int], Filters]
    fits: Callable[[Collection, np.ndarray, int], np.ndarray]


FILTERS = {
    "one_artist": Filter(
        lambda _, artist: Filters(artist=f"artist {artist + 1}"),
        lambda _, artist_N, artist: artist_N == artist + 1,
    ),
    "other_artists": Filter(
        lambda *_: Filters(other_artists=True),
        lambda _, artist_N, artist: artist_N != artist,
    ),
    "one_century": Filter(
        lambda c, artist: Filters(century=CENTURIES[c.century_A[artist + 1]]),
        lambda c, artist_N, artist: (c.century_A == c.century_A[artist + 1])[artist_N],
    ),
}
EVERYTHING = Filter(lambda *_: Filters(), lambda _, artist_N, __: np.ones(len(artist_N), bool))


@dataclasses.dataclass(frozen=True)
class Queries:
    """What is asked: vectors by artists, under a filter; their numbers where the index has them."""

    emb_QxD: np.ndarray
    artist_Q: np.ndarray
    number_Q: np.ndarray | None
    filter: Filter = EVERYTHING


def searched(folder: Path, collection: Collection) -> dict[str, Any]:
    """Returns recall and milliseconds for each kind of question."""
    rng = np.random.default_rng(2)
    stranger_Q = rng.integers(collection.artists, size=QUERIES)
    strangers = collection.around(stranger_Q, len(collection.artist_N))
    own_Q = rng.choice(np.flatnonzero(collection.artist_N < collection.artists - 1), QUERIES)
    own = Queries(_embeddings(collection, own_Q), collection.artist_N[own_Q], own_Q)
    asked = {"own": own, "strangers": Queries(strangers, stranger_Q, None)}
    few = slice(FILTERED_QUERIES)
    asked |= {
        name: Queries(own.emb_QxD[few], own.artist_Q[few], own_Q[few], filter)
        for name, filter in FILTERS.items()
    }
    started_s = time.perf_counter()
    index = Index(folder)
    figures: dict[str, Any] = {"open_s": time.perf_counter() - started_s}
    for name, queries in asked.items():
        found, passed_ms = _found(index, collection, queries)
        exact = _exact(collection, queries)
        shares = [len({*f} & {*e}) / len(e) for f, e in zip(found, exact, strict=True)]
        ms = {"median": float(np.median(passed_ms)), "p90": float(np.quantile(passed_ms, 0.9))}
        figures[name] = {"queries": len(found), "recall": float(np.mean(shares)), "ms": ms}
        print(name, figures[name], flush=True)
    return figures


def _embeddings(collection: Collection, number_Q: np.ndarray) -> np.ndarray:
    """The vectors of paintings by number, as they were before they were added."""
    emb_QxD = np.empty((len(number_Q), DIM), np.float32)
    for start in collection.starts:
        here_Q = (number_Q >= start) & (number_Q < start + collection.batch)
        emb_NxD = collection.around(collection.artists_from(start), start)
        emb_QxD[here_Q] = emb_NxD[number_Q[here_Q] - start]
    return emb_QxD


def _found(
    index: Index, collection: Collection, queries: Queries
) -> tuple[list[list[int]], list[float]]:
    """Asks as painterjax.search does; returns numbers and milliseconds for each query."""
    found, passed_ms = [], []
    asked = zip(queries.emb_QxD, queries.artist_Q.tolist(), strict=True)
    for i, (emb_D, artist) in enumerate(asked):
        started_s = time.perf_counter()
        entry = None if queries.number_Q is None else index.entry(int(queries.number_Q[i]))
        query = lookup.Query(emb_D if entry is None else index.embedding(entry.id), entry)
        among_N = select(index, query.entry, queries.filter.asked(collection, artist))
        nearest = lookup.nearest(index, query, NEIGHBORS, among_N)
        passed_ms.append(1000 * (time.perf_counter() - started_s))
        found.append([neighbor.entry.id for neighbor in nearest])
    return found, passed_ms


def _exact(collection: Collection, queries: Queries) -> list[list[int]]:
    """The numbers of the nearest, by exact search over batch after batch."""
    found = [[] for _ in queries.emb_QxD]
    for start in collection.starts:
        artist_N = collection.artists_from(start)
        flat: Any = faiss.IndexFlatL2(DIM)
        flat.add(collection.around(artist_N, start))
        if queries.filter is EVERYTHING:
            square_QxR, row_QxR = flat.search(queries.emb_QxD, NEIGHBORS + 1)
        else:
            fits_QxN = (
                queries.filter.fits(collection, artist_N, artist) for artist in queries.artist_Q
            )
            parts = [
                flat.search(emb_D[None], NEIGHBORS + 1, params=_only(fits_N))
                for emb_D, fits_N in zip(queries.emb_QxD, fits_QxN, strict=True)
            ]
            square_QxR, row_QxR = (np.concatenate(part) for part in zip(*parts, strict=True))
        for each, square_R, row_R in zip(found, square_QxR, row_QxR, strict=True):
            each += [
                (s, start + int(row)) for s, row in zip(square_R, row_R, strict=True) if row >= 0
            ]
    itself = [None] * len(found) if queries.number_Q is None else queries.number_Q
    return [
        [number for _, number in sorted(each) if number != skipped][:NEIGHBORS]
        for each, skipped in zip(found, itself, strict=True)
    ]


def _only(fits_N: np.ndarray) -> Any:
    selected: Any = faiss.IDSelectorBitmap
    kind: Any = faiss.SearchParameters
    return kind(sel=selected(np.packbits(fits_N, bitorder="little")))


if __name__ == "__main__":
    main()
