"""Paintings as columns in Arrow's memory, so that tens of millions are sorted, split and stored.

What is computed of many paintings is computed by column; a Painting is made where one is looked at.
"""

import collections
import dataclasses
import hashlib
import operator
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute

from painterjax.data.catalog import PAINTING_COLUMNS, SPLITS, Painting

pc: Any = pyarrow.compute  # Its functions appear when it is imported; no type checker knows them.
CHUNK = 2**16  # Rows that become Python objects at once.
TEXT = pa.large_string()  # Offsets of 64 bits: a column may hold more than 2 GB.
NAME = pa.dictionary(pa.int32(), pa.string())
NAMES = ("artist", "style", "genre")  # Columns with few different values.
SCHEMA = pa.schema([(name, NAME if name in NAMES else TEXT) for name in PAINTING_COLUMNS])


@dataclasses.dataclass(frozen=True, eq=False)
class Paintings(Sequence[Painting]):
    """Paintings as a sequence; `table` has the columns of SCHEMA first, and perhaps others."""

    table: pa.Table

    @classmethod
    def of(cls, paintings: Iterable[Painting]) -> "Paintings":
        """Returns paintings as columns; those that are columns already as they are.

        >>> Paintings.of([Painting("a.jpg", "Degas")])[0].artist
        'Degas'
        """
        if isinstance(paintings, Paintings):
            return paintings
        rows = list(map(operator.attrgetter(*PAINTING_COLUMNS), paintings))
        values = zip(*rows, strict=True) if rows else [[]] * len(SCHEMA)
        arrays = [pa.array(list(v), of.type) for v, of in zip(values, SCHEMA, strict=True)]
        return cls(pa.Table.from_arrays(arrays, schema=SCHEMA))

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Painting]:
        for batch in self.table.select(PAINTING_COLUMNS).to_batches(CHUNK):
            yield from map(Painting, *(column.to_pylist() for column in batch.columns))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    @overload
    def __getitem__(self, row: SupportsIndex) -> Painting: ...
    @overload
    def __getitem__(self, row: slice) -> "Paintings": ...
    def __getitem__(self, row: SupportsIndex | slice) -> "Painting | Paintings":
        rows = range(len(self))[row]
        if isinstance(rows, int):
            return Painting(*(self.table.column(name)[rows].as_py() for name in PAINTING_COLUMNS))
        if rows.step == 1:
            return Paintings(self.table.slice(rows.start, len(rows)))
        return Paintings(self.table.take(pa.array(rows, pa.int64())))


def numbered(names: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Returns the different names in order, and for each row the int32 number of its name.

    >>> names, number_N = numbered(pa.chunked_array([["b", "a", "b"]], NAME))
    >>> names, number_N.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    coded = names.unify_dictionaries().combine_chunks()
    code_N, listed = coded.indices.to_numpy(), coded.dictionary.to_pylist()
    used = np.flatnonzero(np.bincount(code_N, minlength=len(listed)))
    different = sorted({listed[code] for code in used})
    number = {name: i for i, name in enumerate(different)}
    number_U = np.array([number.get(name, -1) for name in listed], np.int32)
    return different, number_U[code_N]


def name_column(names: Sequence[str], number_N: np.ndarray) -> pa.DictionaryArray:
    """Returns a column of NAME: for each row the name with its number."""
    indices = pa.array(number_N, pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def with_one_name_each(artist: pa.ChunkedArray) -> pa.DictionaryArray:
    """Returns a column with one spelling of each artist's name, the most frequent one.

    Names are the same artist's if they differ in case, in white space, or in how Unicode composes
    their letters.

    >>> spellings = pa.chunked_array([["Degas", "degas ", "Degas", "Cezanne"]], NAME)
    >>> with_one_name_each(spellings).to_pylist()
    ['Degas', 'Degas', 'Degas', 'Cezanne']
    """
    listed, number_N = numbered(artist)
    names = [unicodedata.normalize("NFC", " ".join(name.split())) for name in listed]
    count: collections.Counter[str] = collections.Counter()
    for name, times in zip(names, np.bincount(number_N, minlength=len(names)), strict=True):
        count[name] += int(times)
    spelling: dict[str, str] = {}
    # The first of equally frequent ones by the alphabet.
    for name in sorted(count, key=lambda name: (-count[name], name)):
        spelling.setdefault(name.casefold(), name)
    spelled = sorted(spelling.values())
    number = {name: i for i, name in enumerate(spelled)}
    number_U = np.array([number[spelling[name.casefold()]] for name in names], np.int32)
    return name_column(spelled, number_U[number_N])


def by_file(table: pa.Table) -> pa.Table:
    """Returns the rows sorted by file, then artist."""
    file = table["file"]
    if pc.all(pc.less(file[:-1], file[1:])).as_py() is not False:
        return table.combine_chunks()
    keys = pa.table({"file": file, "artist": numbered(table["artist"])[1]})
    return table.take(pc.sort_indices(keys, [("file", "ascending"), ("artist", "ascending")]))


def count_rows(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Returns how many paintings and artists each split has."""
    counts = {}
    for split, (start, stop) in ranges(rows).items():
        artists, _ = numbered(rows["artist"].slice(start, stop - start))
        counts[split] = {"paintings": stop - start, "artists": len(artists)}
    return counts


def ranges(rows: pa.Table) -> dict[str, tuple[int, int]]:
    """Returns the first row of each split and that after its last; rows are sorted by split."""
    names, number_N = numbered(rows["split"])
    rank_N = np.array([SPLITS.index(name) for name in names], np.int8)[number_N]
    ends = np.searchsorted(rank_N, range(len(SPLITS) + 1))
    return {name: (int(ends[i]), int(ends[i + 1])) for i, name in enumerate(SPLITS)}


def digest(table: pa.Table) -> str:
    """Returns the SHA-256 of all names and values, however Arrow lays them out in memory."""
    whole = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        length, text = hashlib.sha256(), hashlib.sha256()
        for start in range(0, len(column), CHUNK):
            for values in column.slice(start, CHUNK).cast(TEXT).chunks:
                _, offsets, letters = values.buffers()
                end_N = np.frombuffer(offsets, np.int64)[values.offset :][: len(values) + 1]
                length.update(np.diff(end_N).astype("<i8").tobytes())
                text.update(memoryview(letters or b"")[end_N[0] : end_N[-1]])
        whole.update(name.encode() + b"\0" + length.digest() + text.digest())
    return whole.hexdigest()
