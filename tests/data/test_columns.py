"""Paintings as columns."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from painterjax.data import columns
from painterjax.data.catalog import Painting
from painterjax.data.columns import NAME, Paintings

WORKS = [Painting(f"{i}", f"painter {i % 3}", title=f"{i}" * i, date="\u00e9") for i in range(7)]


def test_spellings_of_a_name_are_one_artist():
    """Composed and decomposed, with other spaces and in other case; the most frequent stays."""
    manet = "\u00c9douard Manet"
    names = ["E\u0301douard  Manet", manet, "\u00c9DOUARD MANET ", manet, "Monet"]
    named = columns.with_one_name_each(pa.chunked_array([names[:2], names[2:]], NAME))
    assert named.to_pylist() == [manet] * 4 + ["Monet"]
    tied = columns.with_one_name_each(pa.chunked_array([["b", "B", "c", "C", "C"]], NAME))
    assert tied.to_pylist() == ["B", "B", "C", "C", "C"]


def test_columns_are_a_sequence_of_paintings():
    works = Paintings.of(WORKS)
    assert list(works) == WORKS == [works[i] for i in range(len(WORKS))]
    assert works == WORKS and works != WORKS[:-1]
    assert works[-1] == WORKS[-1] and works[np.int64(2)] == WORKS[2]
    for rows in (slice(2, 5), slice(None, None, -2), slice(5, 2), slice(3, 99)):
        assert list(works[rows]) == WORKS[rows]
    assert list(Paintings.of([])) == []
    with pytest.raises(IndexError):
        works[len(WORKS)]


def test_the_digest_is_of_the_values_alone():
    """Not of how they lie in memory; and each value, and where it ends, counts."""
    table = Paintings.of(WORKS).table
    pieces = [Paintings.of(WORKS[i : i + 2]).table for i in range(0, 7, 2)]
    for same in (
        pa.concat_tables(pieces),
        table.take(list(range(7))),
        (pa.concat_tables([table, table]).slice(7)),
    ):
        assert columns.digest(same) == columns.digest(table)
    seen = {columns.digest(table), columns.digest(table.drop_columns("date"))}
    for row, name in np.ndindex(7, 6):
        field = columns.SCHEMA.names[name]
        other = dataclasses.replace(WORKS[row], **{field: "x" + getattr(WORKS[row], field)})
        seen.add(columns.digest(Paintings.of([*WORKS[:row], other, *WORKS[row + 1 :]]).table))
    moved = [Painting("1", "a", title="bc"), Painting("2", "a", title="d")]
    other = [Painting("1", "a", title="b"), Painting("2", "a", title="cd")]
    seen |= {columns.digest(Paintings.of(works).table) for works in (moved, other)}
    assert len(seen) == 2 + 7 * 6 + 2
