"""An index of embedded paintings on disk: it grows, and finds the nearest among millions.

paintings.db       SQLite: what is known of each painting, by number, and the vectors' file
vectors-<n>.faiss  the vectors of paintings 0 to n - 1, for FAISS

Up to EXACT paintings the search is exact. Beyond them vectors lie in cells around centers, in half
precision, and only the cells nearest to a query are searched: as many as it takes to find
ivf.RECALL of the ten nearest, measured anew whenever the index grows. FAISS (https://faiss.ai)
does both, selects by number, and holds ten million vectors in the memory of one machine.
"""

import contextlib
import dataclasses
import json
import operator
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data.catalog import PAINTING_COLUMNS, Painting, century
from painterjax.index import ivf
from painterjax.run.embeddings import ORIGIN, UNREADABLE, Vectors, read_origin

EXACT = 1_000_000
# How far apart, of their length, two vectors of one image are at most: half precision rounds.
SAME = 1e-3
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
create table if not exists facts (name text primary key, value text not null);
"""


@dataclasses.dataclass(frozen=True)
class IndexedPainting:
    """A painting of the index: its number, what is known of it, and where it comes from.

    Attributes:
      id: its number.
      painting: what is known of it.
      origin: Vectors.origin of the file that it was added from.
      position: its place there.
    """

    id: int
    painting: Painting
    origin: dict[str, Any]
    position: int


class Index:
    """The index in a folder; an empty folder, or none, is an empty index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._vectors: Any = None
        self._read()

    def _read(self) -> None:
        facts = self.facts
        if not facts:
            return
        path = self.folder / facts["vectors"]
        try:
            self._vectors = faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path} cannot be read: build the index again") from error
        if self._in_cells:
            if not all(facts.get(name, "").isdecimal() for name in ("probes", "trained")):
                raise self._damaged("it lacks what was measured of its cells")
            self._vectors.nprobe = int(facts["probes"])

    def __len__(self) -> int:
        return 0 if self._vectors is None else self._vectors.ntotal

    @property
    def facts(self) -> dict[str, str]:
        """What holds for all vectors: `run`, `step`, `config_sha256`; for cells, their figures."""
        if not self._database.exists():
            return {}
        with self._open() as database:
            tables = database.execute("select 1 from sqlite_master where name = 'facts'")
            if tables.fetchone() is None:  # A kill came before the first add was whole.
                return {}
            facts = dict(database.execute("select name, value from facts"))
        lacking = [name for name in (*ORIGIN, "vectors") if facts and name not in facts]
        if lacking:
            raise self._damaged(f"it lacks {', '.join(lacking)}")
        return facts

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Vectors.origin of each file that was added, in their order."""
        with self._open() as database:
            return list(self._origins(database).values())

    def _origins(self, database: sqlite3.Connection) -> dict[int, dict[str, Any]]:
        rows = database.execute("select id, origin from sources order by id").fetchall()
        try:
            return {source: read_origin(text) for source, text in rows}
        except UNREADABLE as error:
            raise self._damaged(f"an origin is damaged ({error})") from error

    def add(self, vectors: Vectors) -> int:
        """Appends the vectors that are not there yet; a kill leaves the index as it was.

        A painting is there where one of its file's name has its vector.

        Returns:
          How many were appended.

        Raises:
          InputError: they come from another run, or another state of it, than those there.
          OSError: the disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.claimed(self.folder):
            self._read()  # Another process may have added some since.
            before = self.facts
            self._check(vectors, before)
            row_M = self._new_rows(vectors)
            if not len(row_M):
                return 0
            grown, more = _grown(self._vectors, vectors.emb_NxD[row_M], before)
            facts = {name: str(vectors.origin[name]) for name in ORIGIN}
            facts |= {"vectors": f"vectors-{grown.ntotal}.faiss", **more}
            temporary = self.folder / "vectors.tmp"
            try:
                faiss.write_index(grown, str(temporary))
            except RuntimeError as error:
                raise OSError(f"{temporary} cannot be written: {error}") from error
            temporary.replace(self.folder / facts["vectors"])
            with self._open() as database:
                self._insert(database, vectors, row_M.tolist(), facts=facts)
            self._vectors = grown
            if before and before["vectors"] != facts["vectors"]:
                (self.folder / before["vectors"]).unlink(missing_ok=True)
        return len(row_M)

    def _check(self, vectors: Vectors, facts: dict[str, str]) -> None:
        for name in ("step", "config_sha256"):
            if facts and facts[name] != str(vectors.origin[name]):
                raise InputError(
                    f"{self.folder} has vectors of {name} {facts[name]}, these are of"
                    f" {vectors.origin[name]}: embed again, or choose another --index"
                )
        if len(self) and self._vectors.d != vectors.emb_NxD.shape[1]:
            sizes = f"{self._vectors.d} numbers, not {vectors.emb_NxD.shape[1]}"
            raise InputError(f"{self.folder} has vectors of {sizes}")

    def _new_rows(self, vectors: Vectors) -> np.ndarray:
        """The rows of vectors whose paintings are not there yet."""
        is_new_N = np.ones(len(vectors.paintings), bool)
        if not len(self):
            return np.flatnonzero(is_new_N)
        block = max(1, ivf.BLOCK_BYTES // (4 * self._vectors.d))
        with self._open() as database:  # Every painting beside those there of its name.
            pairs = database.execute(
                "select new.key, paintings.id from json_each(?) as new"
                " cross join paintings on paintings.file = new.value",
                (json.dumps([painting.file for painting in vectors.paintings]),),
            )
            while some := pairs.fetchmany(block):
                row_M, number_M = np.array(some, np.int64).T
                new_MxD = vectors.emb_NxD[row_M]
                there_MxD = ivf.reconstruct(self._vectors, number_M)
                apart_M = np.linalg.norm(new_MxD - there_MxD, axis=1)
                is_new_N[row_M[apart_M <= SAME * np.linalg.norm(new_MxD, axis=1)]] = False
        return np.flatnonzero(is_new_N)

    def nearest(
        self, emb_D: np.ndarray, count: int, *, among_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distances and numbers of up to `count` paintings, nearest first.

        Args:
          emb_D: a float32 embedding.
          count: how many.
          among_N: which paintings to choose from, by number; all where None.
        """
        parameters = None
        if among_N is not None:
            selected: Any = faiss.IDSelectorBitmap
            kind: Any = faiss.SearchParametersIVF if self._in_cells else faiss.SearchParameters
            parameters = kind(sel=selected(np.packbits(among_N, bitorder="little")))
            # What is left may lie in any of the cells, and what is left out, as an artist's own
            # paintings, may fill the nearest: all are searched: 0.2 s for ten million vectors.
            if self._in_cells:
                parameters.nprobe = self._vectors.nlist
        count = min(count, len(self))
        square_1xR, id_1xR = self._vectors.search(emb_D[None], count, params=parameters)
        found_R = id_1xR[0] >= 0
        return np.sqrt(np.maximum(square_1xR[0][found_R], 0)), id_1xR[0][found_R]

    def embedding(self, number: int) -> np.ndarray:
        """Returns the embedding of a painting, as the index keeps it."""
        if self._in_cells:
            self._vectors.make_direct_map()
        return self._vectors.reconstruct(number)

    def entry(self, number: int) -> IndexedPainting:
        """Returns what is known of a painting; raises InputError where there is no such number."""
        if not 0 <= number < len(self):
            raise InputError(f"there is no painting {number}: {self.folder} has {len(self)}")
        return self.entries([number])[0]

    def entries(self, numbers: Sequence[int]) -> list[IndexedPainting]:
        """Returns what is known of paintings of the index, in the order of their numbers here."""
        columns = ", ".join(PAINTING_COLUMNS)
        with self._open() as database:
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
            raise self._damaged(f"it knows nothing of painting or source {error}") from error

    def find(self, **wanted: str) -> np.ndarray:
        """Returns which paintings have the wanted values in columns, or century, by number."""
        conditions = " and ".join(f"{column} = ?" for column in wanted)
        with self._open() as database:  # One text of millions of numbers is read at once.
            (numbers,) = database.execute(
                f"select group_concat(id) from paintings where {conditions} and id < ?",
                [*wanted.values(), len(self)],
            ).fetchone()
        found_N = np.zeros(len(self), bool)
        found_N[np.fromstring(numbers or "", np.int64, sep=",")] = True
        return found_N

    def has(self, column: str, value: str) -> bool:
        """Returns whether any painting has a value in a column, or century."""
        with self._open() as database:
            found = database.execute(f"select 1 from paintings where {column} = ?", (value,))
            return found.fetchone() is not None

    def values(self, column: str) -> list[str]:
        """Returns what a column, or century, holds somewhere, sorted; not what is unknown."""
        with self._open() as database:
            rows = database.execute(
                f"select distinct {column} from paintings where {column} <> '' order by {column}"
            ).fetchall()
        return [value for (value,) in rows]

    @property
    def _in_cells(self) -> bool:
        return isinstance(self._vectors, faiss.IndexIVF)

    @property
    def _database(self) -> Path:
        return self.folder / "paintings.db"

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database; what is changed within is kept whole or not at all."""
        try:
            with contextlib.closing(sqlite3.connect(self._database)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> InputError:
        return InputError(f"{self._database}: {what}: build the index again")

    def _insert(
        self,
        database: sqlite3.Connection,
        vectors: Vectors,
        rows: list[int],
        *,
        facts: dict[str, str],
    ) -> None:
        database.execute("pragma cache_size = -200000")  # kB: the indexes of millions of rows.
        database.execute("begin")
        first = len(self)
        if not first:
            for statement in SCHEMA.split(";")[:-1]:
                database.execute(statement)
        cursor = database.execute(
            "insert into sources (origin) values (?)", (json.dumps(vectors.origin),)
        )
        places = ", ".join("?" * (len(PAINTING_COLUMNS) + 4))
        values = operator.attrgetter(*PAINTING_COLUMNS)
        database.executemany(
            f"insert into paintings values ({places})",
            (
                (first + i, cursor.lastrowid, row, *values(painting), century(painting.date))
                for i, row in enumerate(rows)
                for painting in (vectors.paintings[row],)
            ),
        )
        database.executemany("insert or replace into facts values (?, ?)", facts.items())


def _grown(vectors: Any, emb_NxD: np.ndarray, facts: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Returns FAISS's index with more vectors, and what was measured where they lie in cells."""
    if vectors is None:
        vectors = faiss.IndexFlatL2(emb_NxD.shape[1])
    if isinstance(vectors, faiss.IndexIVF) or vectors.ntotal + len(emb_NxD) > EXACT:
        return ivf.grown(vectors, emb_NxD, facts)
    # A copy: what is on disk and in this object change together or not at all.
    vectors = faiss.clone_index(vectors)
    vectors.add(emb_NxD)
    return vectors, {}
