"""Tables on disk: the CSV that lists a collection, and the rows of a store, as Parquet and CSV."""

import collections
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from painterjax.common import files
from painterjax.common.errors import InputError, words_of
from painterjax.data.catalog import PAINTING_COLUMNS, SPLITS, csv_text
from painterjax.data.columns import NAME, NAMES, SCHEMA, TEXT, numbered

PARQUET, CSV = "paintings.parquet", "paintings.csv"  # A store's rows, and their export.
CSV_COLUMNS = ("index", "split", *PAINTING_COLUMNS)
ROWS_SCHEMA = pa.schema([("split", NAME), *SCHEMA])
CSV_ROWS = 100_000  # Of a larger store there is no export.
ROW_GROUP = 2**18  # Rows of a file that are written, and compressed, at once.
BLOCK_BYTES = 2**24  # Of a CSV file that are parsed at once.
AGAIN = "prepare the store again"


def read_table(path: Path, *, required: Sequence[str], known: Sequence[str] = ()) -> pa.Table:
    """Reads columns of a CSV file: the required ones, and of the known ones those that it has.

    Raises:
      InputError: the file, one of its required columns or a value is missing.
    """
    if path.exists() and not path.is_file():  # Reading a pipe or a device may never end.
        raise InputError(f"{path} is not a regular file: save the table as one")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
        _check_header(path, names, required)
        wanted = [name for name in (*required, *known) if name in names]
        types = {name: NAME if name in NAMES else TEXT for name in wanted}
        invalid: list[arrow_csv.InvalidRow] = []
        try:
            return arrow_csv.read_csv(
                path,
                arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                arrow_csv.ParseOptions(
                    newlines_in_values=True,
                    invalid_row_handler=lambda row: invalid.append(row) or "error",
                ),
                arrow_csv.ConvertOptions(column_types=types, include_columns=wanted),
            )
        except pa.ArrowInvalid as error:
            if not invalid:
                raise
            row = invalid[0]
            what = f"{row.actual_columns} values, not {row.expected_columns} as in the header"
            raise InputError(f"{path}, row {row.number}: {what}, correct it") from error
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({words_of(error)}): choose another") from error


def _check_header(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    if missing := [name for name in required if name not in names]:
        found = ", ".join(names or ["none"])
        raise InputError(f"{path} has the column(s) {found}: add {', '.join(missing)}")
    if twice := [name for name, n in collections.Counter(names).items() if name and n > 1]:
        raise InputError(f"{path} has the column(s) {', '.join(twice)} twice: rename one")


def write_rows(path: Path, rows: pa.Table) -> None:
    """Writes the rows of a store as `paintings.parquet`, with the columns CSV_COLUMNS."""
    index = pa.array(np.arange(len(rows), dtype=np.int32))
    table = rows.select(ROWS_SCHEMA.names).add_column(0, "index", index)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)


def read_rows(path: Path) -> pa.Table:
    """Reads what `write_rows` wrote; raises InputError where it is malformed."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            rows = file.read(ROWS_SCHEMA.names)
        if not rows.schema.equals(ROWS_SCHEMA) or any(c.null_count for c in rows.columns):
            raise InputError(f"{path} has the columns {rows.schema.names}: {AGAIN}")
        return _checked(path.name, rows.unify_dictionaries().combine_chunks())
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({words_of(error)}): {AGAIN}") from error


def to_csv(rows: pa.Table) -> str:
    """Returns the text of `paintings.csv`, with the columns CSV_COLUMNS."""
    columns = [rows[name].to_pylist() for name in ROWS_SCHEMA.names]
    return csv_text([CSV_COLUMNS, *zip(range(len(rows)), *columns, strict=True)])


def from_csv(text: str) -> pa.Table:
    """Parses the text of `paintings.csv`; raises InputError where it is malformed."""
    try:
        header, *lines = csv.reader(io.StringIO(text, newline="")) if text else [[]]
    except csv.Error as error:
        raise InputError(f"{CSV} cannot be read ({error}): {AGAIN}") from error
    if tuple(header) != CSV_COLUMNS:
        raise InputError(f"{CSV} has the columns {tuple(header)}, expected {CSV_COLUMNS}")
    for line in lines:
        if len(line) != len(CSV_COLUMNS) or line[1] not in SPLITS:
            raise InputError(f"{CSV} has the row {line}: {AGAIN}")
    _, *columns = zip(*lines, strict=True) if lines else [[]] * len(CSV_COLUMNS)
    arrays = [pa.array(list(c), of.type) for c, of in zip(columns, ROWS_SCHEMA, strict=True)]
    return _checked(CSV, pa.Table.from_arrays(arrays, schema=ROWS_SCHEMA))


def _checked(name: str, rows: pa.Table) -> pa.Table:
    """Returns rows that are sorted by split and artist; raises InputError for others."""
    listed, split_N = numbered(rows["split"])
    _, artist_N = numbered(rows["artist"])
    if unknown := set(listed) - set(SPLITS):
        raise InputError(f"{name} has the split {min(unknown)}: {AGAIN}")
    order_N = np.array([SPLITS.index(split) for split in listed], np.int64)[split_N] << 32
    if (np.diff(order_N + artist_N) < 0).any():
        raise InputError(f"{name} is not sorted by split and artist: {AGAIN}")
    return rows
