"""Names of artists and CSV tables."""

import pytest

from painterjax.common.errors import InputError
from painterjax.data import catalog, sources, splits
from painterjax.data.catalog import Painting

HEADER = ",".join(catalog.CSV_COLUMNS)


def _split(paintings, *, test_fraction=0.2, val_fraction=0.1, seed=0):
    return splits.by_artist(
        paintings, test_fraction=test_fraction, val_fraction=val_fraction, seed=seed
    )


def test_spellings_of_a_name_are_one_artist():
    """Composed and decomposed, with other spaces and in other case; the most frequent stays."""
    manet = "\u00c9douard Manet"
    names = ["E\u0301douard  Manet", manet, "\u00c9DOUARD MANET ", manet, "Monet"]
    paintings = [catalog.Painting(f"{i}.jpg", name) for i, name in enumerate(names)]
    named = catalog.with_one_name_each(paintings)
    assert [p.artist for p in named] == [manet] * 4 + ["Monet"]
    assert [p.file for p in named] == [p.file for p in paintings]


def test_paintings_csv_comes_back_as_it_was():
    odd = ['"quoted", with commas', "line\nbreak", "carriage\rreturn", "\u00a0na\u00efve", ""]
    paintings = [Painting(f"{i}.jpg", "a", title=text, date=text) for i, text in enumerate(odd * 2)]
    rows, _ = _split(paintings, test_fraction=0.0)
    assert catalog.from_csv(catalog.to_csv(rows)) == rows


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "columns"),
        (["index,split,artist"], r"columns \('index', 'split', 'artist'\)"),
        ([HEADER, "0,train,a.jpg"], r"row \['0', 'train', 'a\.jpg'\]"),
        ([HEADER, "0,dev,a.jpg,a,,,,"], "row .*'dev'"),
        ([HEADER, "0,train,b.jpg,b,,,,", "1,train,a.jpg,a,,,,"], "not sorted"),
        ([HEADER, "0,train," + "a" * 200_000], "field larger"),
    ],
)
def test_a_damaged_paintings_csv_is_refused(lines, message):
    with pytest.raises(InputError, match=rf"paintings\.csv .*{message}"):
        catalog.from_csv("\n".join(lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,painter\na.jpg,a\n", "file, painter: add artist$"),
        (b"", "none: add file, artist"),
        (b"file,artist\na.jpg\n", "line 2: not 2 values"),
        (b"file,artist\na.jpg,a,b\n", "line 2: not 2 values"),
        (b"file,artist\n\xff\xfe.jpg,a\n", "decode"),
        (b"file,artist,title,artist,,\n0.png,a,b,c,,\n", "artist twice"),
        (b"file,artist,title,title,,\n0.png,a,b,c,,\n", "title twice"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        catalog.read_table(tmp_path / "table.csv", required=("file", "artist"))


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
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
