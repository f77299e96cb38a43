"""The catalog of an index in SQLite: its paintings by number, where they are from, and facts."""

import contextlib
import dataclasses
import json
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.errors import InputError
from painterjax.data.catalog import PAINTING_COLUMNS, Painting, century
from painterjax.run.embeddings import ORIGIN, UNREADABLE, Vectors, read_origin

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


class Database:
    """The file paintings.db of an index's folder, which may be missing.

    Any method raises InputError where the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "paintings.db"

    @property
    def facts(self) -> dict[str, str]:
        """The facts about all vectors: ORIGIN, those of VectorFiles and of ivf.extend."""
        if not self._path.exists():
            return {}
        with self._connect() as database:
            tables = database.execute("select 1 from sqlite_master where name = 'facts'")
            if tables.fetchone() is None:  # The first `insert` was killed.
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

    def insert(self, vectors: Vectors, rows: list[int], facts: dict[str, str], first: int) -> None:
        """Inserts rows of vectors as paintings `first` and so on, with new facts, or nothing."""
        values, places = operator.attrgetter(*PAINTING_COLUMNS), len(PAINTING_COLUMNS) + 4
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
            unknown = ", ".join("?" * places)
            database.executemany(f"insert into paintings values ({unknown})", records)
            database.executemany("insert or replace into facts values (?, ?)", facts.items())

    def of_same_name(self, files: list[str], block: int) -> Iterator[np.ndarray]:
        """Yields each place in `files` with each painting of that file name: M x 2, in blocks."""
        with self._connect() as database:
            pairs = database.execute(
                "select new.key, paintings.id from json_each(?) as new"
                " cross join paintings on paintings.file = new.value",
                (json.dumps(files),),
            )
            while some := pairs.fetchmany(block):
                yield np.array(some, np.int64)

    def entries(self, numbers: Sequence[int]) -> list[IndexedPainting]:
        """Returns paintings in the order of `numbers`."""
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

    def of_folder(self, folder: str, count: int) -> np.ndarray:
        """Returns whether each of the first `count` paintings is an image of a folder."""
        of_folder = "(select id from sources where json_extract(origin, '$.images') = ?)"
        return self._numbers(f"source in {of_folder}", [folder], count)

    def find(self, wanted: dict[str, str], count: int) -> np.ndarray:
        """Returns whether each of the first `count` paintings has the wanted values of columns."""
        condition = " and ".join(f"{column} = ?" for column in wanted)
        return self._numbers(condition, wanted.values(), count)

    def _numbers(self, condition: str, values: Iterable[str], count: int) -> np.ndarray:
        """Whether each painting fits a condition of SQL."""
        with self._connect() as database:  # One text is the fastest way to millions of numbers.
            (numbers,) = database.execute(
                f"select group_concat(id) from paintings where {condition} and id < ?",
                [*values, count],
            ).fetchone()
        found_N = np.zeros(count, bool)
        found_N[np.fromstring(numbers or "", np.int64, sep=",")] = True
        return found_N

    def values(self, column: str) -> list[str]:
        """Returns the distinct values of a column, or of `century`, sorted, without ""."""
        with self._connect() as database:
            rows = database.execute(
                f"select distinct {column} from paintings where {column} <> '' order by {column}"
            ).fetchall()
        return [value for (value,) in rows]

    def artists(self) -> list[str]:
        """Returns the artist of each painting by number."""
        with self._connect() as database:
            rows = database.execute("select artist from paintings order by id").fetchall()
        return [artist for (artist,) in rows]

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Opens the database; the changes of a block are committed together or not at all."""
        try:
            with contextlib.closing(sqlite3.connect(self._path)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> InputError:
        return InputError(f"{self._path} is damaged ({reason}): build the index again")
