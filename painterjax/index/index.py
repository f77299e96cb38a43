"""An index of embedded paintings on disk, which grows and finds the nearest among millions.

paintings.db       SQLite: the catalog of the paintings by number, and the name of the vectors' file
vectors-<n>.faiss  the vectors of paintings 0 to n - 1, for FAISS (https://faiss.ai)

The search is exact for up to ivf.EXACT paintings. Larger indexes use IVF in half precision
and probe enough lists for ivf.RECALL of recall@10, measured whenever the index grows. Ten million
vectors fit in the memory of one machine.
"""

import contextlib
import dataclasses
import json
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data.catalog import PAINTING_COLUMNS, Painting, century
from painterjax.index import ivf
from painterjax.metrics import attribution
from painterjax.metrics.attribution import Collection
from painterjax.run.embeddings import ORIGIN, SAME_IMAGE, UNREADABLE, Vectors, read_origin
from painterjax.run.load import NETWORK

SCHEMA = """
create table if not exists sources (id integer primary key, origin text not null);
create table if not exists paintings (
  id integer primary key, source integer not null, position integer not null,
  file text not null, artist text not null, title text not null, style text not null,
  genre text not null, date text not null, century text not null);
create index if not exists paintings_by_artist on paintings (artist);
create index if not exists paintings_by_file on paintings (file);
create index if not exists paintings_by_style on paintings (style);
create index if not exists paintings_by_century on paintings (century);
create table if not exists facts (name text primary key, value text not null)
"""


@dataclasses.dataclass(frozen=True)
class IndexedPainting:
    """A painting of the index: its number, and what the catalog knows of it."""

    id: int
    painting: Painting
    origin: dict[str, Any]  # Vectors.origin of the file that it was added from
    position: int  # its row in that file


class Index:
    """The index in a folder; an empty or missing folder is an empty index."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._database = folder, folder / "paintings.db"
        self._faiss: Any = None
        self._read()

    def _read(self) -> None:
        if not (facts := self.facts):
            return
        path = self.folder / facts["vectors"]
        try:
            self._faiss = faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path} cannot be read: build the index again") from error
        if self._is_ivf:
            if not all(facts.get(name, "").isdecimal() for name in ("probes", "trained")):
                raise self._damaged("it lacks the facts probes and trained")
            self._faiss.nprobe = int(facts["probes"])

    def __len__(self) -> int:
        return 0 if self._faiss is None else self._faiss.ntotal

    @property
    def facts(self) -> dict[str, str]:
        """The facts about all vectors: `run`, `step`, `network_sha256`; those of ivf.extend."""
        if not self._database.exists():
            return {}
        with self._connect() as database:
            tables = database.execute("select 1 from sqlite_master where name = 'facts'")
            if tables.fetchone() is None:  # The first `add` was killed.
                return {}
            facts = dict(database.execute("select name, value from facts"))
        missing = [name for name in (*ORIGIN, "vectors") if facts and name not in facts]
        if missing:
            raise self._damaged(f"it lacks the facts {', '.join(missing)}")
        return facts

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Vectors.origin of each file that was added, in this order."""
        with self._connect() as database:
            return list(self._origins(database).values())

    def _origins(self, database: sqlite3.Connection) -> dict[int, dict[str, Any]]:
        rows = database.execute("select id, origin from sources order by id").fetchall()
        try:
            return {source: read_origin(text) for source, text in rows}
        except UNREADABLE as error:
            raise self._damaged(f"an origin is damaged ({error})") from error

    def add(self, vectors: Vectors) -> int:
        """Appends the vectors that are new; a kill leaves the index as it was.

        A painting is not new if one with the same file name and vector is in the index.

        Returns:
          How many were appended.

        Raises:
          InputError: the vectors are of another network than those in the index, or paintings of
            the same folder in the index were changed or removed since.
          OSError: the disk is full.
        """
        with files.claimed(self.folder):
            self._read()  # Another process may have added some since.
            before = self.facts
            self._check(vectors, before)
            is_new_N, is_found_I = self._matches(vectors)
            if before:
                self._check_found(vectors, is_found_I)
            row_M = np.flatnonzero(is_new_N)
            if not len(row_M):
                return 0
            extended, more = ivf.extend(self._faiss, vectors.emb_NxD[row_M], before)
            facts = {name: str(vectors.origin[name]) for name in ORIGIN}
            facts |= {"vectors": f"vectors-{extended.ntotal}.faiss", **more}
            self._write_vectors(extended, facts["vectors"])
            self._insert(vectors, row_M.tolist(), facts)
            self._faiss = extended
            if before and before["vectors"] != facts["vectors"]:
                (self.folder / before["vectors"]).unlink(missing_ok=True)
        return len(row_M)

    def _check(self, vectors: Vectors, facts: dict[str, str]) -> None:
        if facts and facts[NETWORK] != (new := vectors.origin[NETWORK]):
            raise InputError(
                f"{self.folder} has vectors of another network ({NETWORK} is {facts[NETWORK]}, that"
                f" of the new ones {new}): embed again, or choose another --index"
            )
        before = self.origins if facts else []
        if len({origin.get("squares", 1) for origin in [*before, vectors.origin]}) > 1:
            raise InputError(
                f"{self.folder} has vectors of center squares, and the new ones of wide paintings"
                " are means over several, or the other way round: choose another --index"
            )
        if facts and self._faiss.d != (dim := vectors.emb_NxD.shape[1]):
            raise InputError(
                f"{self.folder} has vectors of {self._faiss.d} numbers, the new ones have {dim}:"
                " choose another --index"
            )

    def _matches(self, vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """Whether each painting is new, and whether each of the index is among them."""
        is_new_N, is_found_I = np.ones(len(vectors.paintings), bool), np.zeros(len(self), bool)
        if not len(self):
            return is_new_N, is_found_I
        block = max(1, ivf.BLOCK_BYTES // (4 * self._faiss.d))
        with self._connect() as database:  # Every painting with each one here of the same name.
            pairs = database.execute(
                "select new.key, paintings.id from json_each(?) as new"
                " cross join paintings on paintings.file = new.value",
                (json.dumps([painting.file for painting in vectors.paintings]),),
            )
            while some := pairs.fetchmany(block):
                row_M, number_M = np.array(some, np.int64).T
                new_MxD = vectors.emb_NxD[row_M]
                old_MxD = ivf.reconstruct(self._faiss, number_M)
                distance_M = np.linalg.norm(new_MxD - old_MxD, axis=1)
                is_same_M = distance_M <= SAME_IMAGE * np.linalg.norm(new_MxD, axis=1)
                is_new_N[row_M[is_same_M]] = False
                is_found_I[number_M[is_same_M]] = True
        return is_new_N, is_found_I

    def _check_found(self, vectors: Vectors, is_found_I: np.ndarray) -> None:
        """Refuses a folder's vectors if the index has others of it, of pictures that are gone."""
        folder = vectors.origin.get("images")
        of_folder = "(select id from sources where json_extract(origin, '$.images') = ?)"
        of_folder_I = self._numbers(f"source in {of_folder}", [folder])
        if len(number_M := np.flatnonzero(of_folder_I & ~is_found_I)):
            raise InputError(
                f"{len(number_M)} paintings of {folder} in {self.folder} were changed or removed,"
                f" such as {self.entry(int(number_M[0])).painting.file}: choose another --index"
            )

    def _write_vectors(self, vectors: Any, name: str) -> None:
        for leftover in self.folder.glob("vectors-*.tmp"):  # of processes that were killed
            leftover.unlink()
        with files.replacing(self.folder / name) as temporary:
            try:
                faiss.write_index(vectors, str(temporary))
            except RuntimeError as error:
                raise OSError(f"{self.folder / name} cannot be written: {error}") from error

    def _insert(self, vectors: Vectors, rows: list[int], facts: dict[str, str]) -> None:
        first, values = len(self), operator.attrgetter(*PAINTING_COLUMNS)
        places = ", ".join("?" * (len(PAINTING_COLUMNS) + 4))
        with self._connect() as database:
            database.execute("pragma cache_size = -200000")  # kB, for the indexes of millions.
            database.execute("begin")
            for statement in SCHEMA.split(";"):
                database.execute(statement)
            source = database.execute(
                "insert into sources (origin) values (?)", (json.dumps(vectors.origin),)
            ).lastrowid
            paintings = zip(rows, (vectors.paintings[row] for row in rows), strict=True)
            records = (
                (first + i, source, row, *values(painting), century(painting.date))
                for i, (row, painting) in enumerate(paintings)
            )
            database.executemany(f"insert into paintings values ({places})", records)
            database.executemany("insert or replace into facts values (?, ?)", facts.items())

    def nearest(
        self, emb_D: np.ndarray, count: int, *, among_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distances and numbers of up to `count` paintings, nearest first.

        Args:
          emb_D: a float32 embedding.
          count: how many.
          among_N: whether each painting of the index may be found; None for all.
        """
        parameters = None
        if among_N is not None:
            bitmap: Any = faiss.IDSelectorBitmap
            kind: Any = faiss.SearchParametersIVF if self._is_ivf else faiss.SearchParameters
            parameters = kind(sel=bitmap(np.packbits(among_N, bitorder="little")))
            # The selected paintings may lie in any list, and those left out, such as an artist's
            # own, may fill the nearest lists. All lists take 0.2 s for ten million vectors.
            if self._is_ivf:
                parameters.nprobe = self._faiss.nlist
        count = min(count, len(self))
        square_1xR, number_1xR = self._faiss.search(emb_D[None], count, params=parameters)
        found_R = number_1xR[0] >= 0
        return np.sqrt(np.maximum(square_1xR[0][found_R], 0)), number_1xR[0][found_R]

    def embedding(self, number: int) -> np.ndarray:
        """Returns the embedding of a painting, as the index stores it."""
        if self._is_ivf:
            self._faiss.make_direct_map()
        return self._faiss.reconstruct(number)

    def embeddings(self) -> np.ndarray:
        """Returns all embeddings emb_NxD by number, as the index stores them."""
        if self._is_ivf:
            self._faiss.make_direct_map()
        return self._faiss.reconstruct_n(0, len(self))

    def entry(self, number: int) -> IndexedPainting:
        """Returns a painting of the index; raises InputError if there is no such number."""
        if not 0 <= number < len(self):
            raise InputError(f"there is no painting {number}: {self.folder} has {len(self)}")
        return self.entries([number])[0]

    def entries(self, numbers: Sequence[int]) -> list[IndexedPainting]:
        """Returns paintings of the index in the order of `numbers`."""
        columns = ", ".join(PAINTING_COLUMNS)
        with self._connect() as database:
            rows = database.execute(
                f"select paintings.id, position, source, {columns} from paintings"
                " where paintings.id in (select value from json_each(?))",
                (json.dumps(list(numbers)),),
            ).fetchall()
            origins = self._origins(database)
        try:
            by_number = {
                number: IndexedPainting(number, Painting(*values), origins[source], position)
                for number, position, source, *values in rows
            }
            return [by_number[number] for number in numbers]
        except KeyError as error:
            raise self._damaged(f"it lacks painting or source {error}") from error

    def find(self, **wanted: str) -> np.ndarray:
        """Returns whether each painting has the wanted values of columns, or of `century`."""
        return self._numbers(" and ".join(f"{column} = ?" for column in wanted), wanted.values())

    def _numbers(self, condition: str, values: Iterable[str | None]) -> np.ndarray:
        """Whether each painting fits a condition of SQL."""
        with self._connect() as database:  # One text is the fastest way to millions of numbers.
            (numbers,) = database.execute(
                f"select group_concat(id) from paintings where {condition} and id < ?",
                [*values, len(self)],
            ).fetchone()
        found_N = np.zeros(len(self), bool)
        found_N[np.fromstring(numbers or "", np.int64, sep=",")] = True
        return found_N

    def values(self, column: str) -> list[str]:
        """Returns the distinct values of a column, or of `century`, sorted, without ""."""
        with self._connect() as database:
            rows = database.execute(
                f"select distinct {column} from paintings where {column} <> '' order by {column}"
            ).fetchall()
        return [value for (value,) in rows]

    def collection(self) -> Collection:
        """Returns what attribution needs of the paintings, which are read in blocks."""
        with self._connect() as database:
            rows = database.execute("select artist from paintings order by id").fetchall()
        artists, parts, start = [artist for (artist,) in rows], [], 0
        for emb_MxD in ivf.blocks(self._faiss):
            parts.append(attribution.collect(emb_MxD, artists[start : start + len(emb_MxD)]))
            start += len(emb_MxD)
        return attribution.merge(parts)

    @property
    def _is_ivf(self) -> bool:
        return isinstance(self._faiss, faiss.IndexIVF)

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Opens the database; the changes of a block are committed together or not at all."""
        try:
            with contextlib.closing(sqlite3.connect(self._database)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> InputError:
        return InputError(f"{self._database} is damaged ({reason}): build the index again")
