"""Tables on disk: what a user lists, and the rows of a store."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from painterjax.common.errors import InputError
from painterjax.data import sources, splits, tables
from painterjax.data.catalog import Painting
from painterjax.data.columns import Paintings

HEADER = ",".join(tables.CSV_COLUMNS)


def _rows(paintings, *, test_fraction=0.0):
    works = Paintings.of(paintings)
    rows, _ = splits.by_artist(works, test_fraction=test_fraction, val_fraction=0.1, seed=0)
    return rows


def test_rows_come_back_as_they_were(tmp_path):
    odd = ['"quoted", with commas', "line\nbreak", "carriage\rreturn", "\u00a0na\u00efve", "\0", ""]
    paintings = [Painting(f"{i}.jpg", "a", title=text, date=text) for i, text in enumerate(odd * 2)]
    rows = _rows(paintings)
    assert rows.num_rows == len(paintings)
    assert tables.from_csv(tables.to_csv(rows)).to_pylist() == rows.to_pylist()
    tables.write_rows(tmp_path / "rows.parquet", rows)
    assert tables.read_rows(tmp_path / "rows.parquet").to_pylist() == rows.to_pylist()


def test_rows_are_a_table_for_every_program(tmp_path):
    """pandas and DuckDB read the names as text and find each image by its index."""
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    works = [Painting(f"{a}/{i}", f"painter {a}", style="s") for a in range(4) for i in range(3)]
    rows = _rows(works, test_fraction=0.5)
    tables.write_rows(path := tmp_path / "rows.parquet", rows)
    table = pandas.read_parquet(path)
    assert list(table.columns) == list(tables.CSV_COLUMNS)
    assert table["index"].tolist() == list(range(len(works)))
    assert table["artist"].tolist() == rows["artist"].to_pylist()
    query = f"SELECT artist, count(*) FROM '{path}' WHERE split = 'test' GROUP BY 1 ORDER BY 1"
    tested = sorted({row["artist"] for row in rows.to_pylist() if row["split"] == "test"})
    assert duckdb.sql(query).fetchall() == [(artist, 3) for artist in tested]
    assert pq.read_metadata(path).row_group(0).column(2).compression == "ZSTD"


def _with(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def test_damaged_rows_are_refused(tmp_path):
    rows = _rows([Painting(f"{a}/{i}", a) for a in "ab" for i in range(2)])
    path = tmp_path / "paintings.parquet"
    for damaged, message in (
        (rows.drop_columns("title"), "columns|title"),
        (_with(rows, "title", pa.array([1, 2, 3, 4])), "has the columns"),
        (
            _with(rows, "title", pa.array(["a", None, "b", "c"], pa.large_string())),
            "has the columns",
        ),
        (_with(rows, "split", pa.array(["dev"] * 4).dictionary_encode()), "the split dev"),
        (rows.take([2, 3, 0, 1]), "not sorted by split and artist"),
    ):
        pq.write_table(damaged, path)
        with pytest.raises(InputError, match=rf"paintings\.parquet .*({message}).*prepare"):
            tables.read_rows(path)
    tables.write_rows(path, rows)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"paintings\.parquet cannot be read .*prepare"):
        tables.read_rows(path)


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
        tables.from_csv("\n".join(lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,painter\na.jpg,a\n", "file, painter: add artist$"),
        (b"", "none: add file, artist"),
        (b"file,artist\na.jpg\n", "row 2: 1 values, not 2"),
        (b"file,artist\na.jpg,a,b\n", "row 2: 3 values, not 2"),
        (b"file,artist\n\xff\xfe.jpg,a\n", "decode"),
        (b"file,artist,title,artist,,\n0.png,a,b,c,,\n", "artist twice"),
        (b"file,artist,title,title,,\n0.png,a,b,c,,\n", "title twice"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        tables.read_table(tmp_path / "table.csv", required=("file", "artist"))


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbffile,artist\r\na.jpg,a\r\n")
    rows = tables.read_table(tmp_path / "table.csv", required=("file", "artist"))
    assert rows.to_pylist() == [{"file": "a.jpg", "artist": "a"}]


@pytest.mark.paintings
def test_the_competition_s_own_list_is_read_whole(shared):
    records = tables.read_table(shared / "pbn" / "train_info.csv", required=("filename", "artist"))
    assert len(records) == 79_433
    assert len(records["artist"].unique()) == 1_584
    source = sources.kaggle(shared / "pbn")
    assert len(source.paintings) + len(source.rejected) == 79_433
    rows, single = splits.by_artist(source.paintings, test_fraction=0.2, val_fraction=0.1, seed=0)
    assert len(rows) + len(single) == len(source.paintings)
    assert tables.from_csv(tables.to_csv(rows)).to_pylist() == rows.to_pylist()
