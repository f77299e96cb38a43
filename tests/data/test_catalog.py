"""The split by artist over many random collections, and the tables in and out."""

import collections
import random

import numpy as np
import pytest

from painterjax.common.errors import InputError
from painterjax.data import catalog, sources
from painterjax.data.catalog import Painting


def _collection(seed: int) -> list[Painting]:
    """Up to 40 artists with 1 to 30 paintings each."""
    rng = np.random.default_rng(seed)
    count_A = rng.integers(1, 31, rng.integers(1, 41))
    return [
        Painting(f"{a}/{i}.jpg", f"artist {a}") for a, n in enumerate(count_A) for i in range(n)
    ]


def _split(paintings, *, test_fraction=0.2, val_fraction=0.1, seed=0):
    return catalog.split_by_artist(
        paintings, test_fraction=test_fraction, val_fraction=val_fraction, seed=seed
    )


@pytest.mark.parametrize("seed", range(30))
def test_split_keeps_its_promises(seed):
    paintings = _collection(seed)
    rows, single = _split(paintings, seed=seed)
    works = collections.Counter(painting.artist for painting in paintings)
    assert sorted([row.painting for row in rows] + single, key=lambda p: p.file) == sorted(
        paintings, key=lambda p: p.file
    )
    assert {painting.artist for painting in single} == {a for a, n in works.items() if n == 1}
    by_split = collections.defaultdict(collections.Counter)
    for row in rows:
        by_split[row.split][row.painting.artist] += 1
    several = sum(n > 1 for n in works.values())
    assert len(by_split["test"]) == int(0.2 * several + 0.5)
    assert not by_split["test"].keys() & (by_split["train"].keys() | by_split["val"].keys())
    for artist, count in by_split["train"].items():
        assert count >= 2
        assert by_split["val"][artist] == min(works[artist] // 10, works[artist] - 2)
    order = [(catalog.SPLITS.index(r.split), r.painting.artist, r.painting.file) for r in rows]
    assert order == sorted(order)


def test_split_depends_on_seed_and_names_alone():
    paintings = _collection(1)
    shuffled = random.Random(0).sample(paintings, len(paintings))
    assert _split(paintings) == _split(shuffled)
    assert _split(paintings, seed=1) != _split(paintings)


def test_validation_takes_the_whole_number_that_was_meant():
    paintings = [Painting(f"{a}/{i}", a) for a in "abcde" for i in range(100)]
    rows, _ = _split(paintings, val_fraction=0.29)
    assert sum(row.split == "val" for row in rows) == 4 * 29


def test_paintings_csv_comes_back_as_it_was():
    odd = [
        '"quoted", with commas',
        "line\nbreak",
        "carriage\rreturn",
        "\u00a0na\u00efve \ufffd",
        "",
    ]
    paintings = [Painting(f"{i}.jpg", "a", title=text, date=text) for i, text in enumerate(odd * 2)]
    rows, _ = _split(paintings, test_fraction=0.0)
    assert catalog.from_csv(catalog.to_csv(rows)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns"),
        ("index,split,artist\n", "has the columns"),
        (",".join(catalog.CSV_COLUMNS) + "\n0,train,a.jpg\n", "has the row"),
        (",".join(catalog.CSV_COLUMNS) + "\n0,dev,a.jpg,a,,,,\n", "has the row"),
        (
            ",".join(catalog.CSV_COLUMNS) + "\n0,train,b.jpg,b,,,,\n1,train,a.jpg,a,,,,\n",
            "not sorted by split and artist",
        ),
    ],
)
def test_a_damaged_paintings_csv_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        catalog.from_csv(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,painter\na.jpg,a\n", "lacks the column.* artist; it has file, painter"),
        (b"", "lacks the column.* file, artist; it has none"),
        (b"file,artist\na.jpg\n", "line 2: not 2 values"),
        (b"file,artist\na.jpg,a,b\n", "line 2: not 2 values"),
        (b"file,artist\n\xff\xfe.jpg,a\n", "cannot read .* decode"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        catalog.read_table(tmp_path / "table.csv", required=("file", "artist"))


def test_the_mark_of_a_spreadsheet_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbffile,artist\r\na.jpg,a\r\n")
    rows = catalog.read_table(tmp_path / "table.csv", required=("file", "artist"))
    assert rows == [{"file": "a.jpg", "artist": "a"}]


@pytest.mark.paintings
def test_the_competition_s_own_list_is_read_whole(shared):
    records = catalog.read_table(shared / "pbn" / "train_info.csv", required=("filename", "artist"))
    assert len(records) == 79_433
    assert len({record["artist"] for record in records}) == 1_584
    source = sources.kaggle(shared / "pbn")
    assert len(source.paintings) + len(source.rejected) == 79_433
    rows, single = _split(source.paintings)
    assert len(rows) + len(single) == len(source.paintings)
    assert catalog.from_csv(catalog.to_csv(rows)) == rows
