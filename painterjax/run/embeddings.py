"""Embeddings on disk: vectors, their paintings, and the run they come from, as .npz or .parquet."""

import dataclasses
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import columns
from painterjax.data.catalog import PAINTING_COLUMNS, Painting
from painterjax.data.columns import Paintings

EMBEDDING, ORIGIN_KEY = "embedding", b"painterjax"  # A column of Parquet, a key of its metadata.
ROW_GROUP = 2**15  # Vectors that are written at once.
# The keys that Vectors.origin always has; others say where the paintings were.
ORIGIN = ("run", "step", "network_sha256")
OF_FILES = ("sha256", "stamps")  # The columns of Vectors whose paintings are files.
# The largest distance of two vectors of one image, relative to their length: half precision rounds.
SAME_IMAGE = 1e-3
# What reading a file of another kind, or a damaged one, can raise.
UNREADABLE = (
    AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError,
    pa.ArrowException, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Embedded paintings.

    Attributes:
      emb_NxD: float32 embeddings.
      paintings: what the catalog knows of each; the artist is "" where it is unknown.
      origin: the run, its step, which network, and where the paintings were; can be stored as JSON.
      sha256: of each painting's file; None where the paintings come from a store.
      stamps: of each file, when it had that SHA-256: checksums.stamp; None in older files.
    """

    emb_NxD: np.ndarray
    paintings: Paintings | list[Painting]
    origin: dict[str, Any]
    sha256: list[str] | None = None
    stamps: list[str] | None = None


def save(path: Path, vectors: Vectors) -> None:
    """Writes the whole file, with a column for each field of the paintings, or nothing."""
    with files.replacing(path) as temporary:
        (_write_parquet if path.suffix == ".parquet" else _write_npz)(temporary, vectors)


def _columns(vectors: Vectors) -> pa.Table:
    table = Paintings.of(vectors.paintings).table.select(PAINTING_COLUMNS)
    for name in OF_FILES:
        if (values := getattr(vectors, name)) is not None:
            table = table.append_column(name, pa.array(values, columns.TEXT))
    return table


def _write_npz(path: Path, vectors: Vectors) -> None:
    arrays = {"emb_NxD": vectors.emb_NxD, "origin": np.array(json.dumps(vectors.origin))}
    for name, values in _columns(vectors).to_pydict().items():
        arrays[name] = np.array(values, np.str_)
    # np.savez accepts no array called "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _write_parquet(path: Path, vectors: Vectors) -> None:
    """Writes a row group after the other, so that vectors on the disk need no memory."""
    table, (count, dim) = _columns(vectors), vectors.emb_NxD.shape
    schema = table.schema.append(pa.field(EMBEDDING, pa.list_(pa.float32(), dim)))
    schema = schema.with_metadata({ORIGIN_KEY: json.dumps(vectors.origin)})
    names: Any = list(columns.NAMES)  # Vectors in a dictionary would only take time.
    with (
        open(path, "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=names) as writer,
    ):
        for start in range(0, count, ROW_GROUP):
            value_M = np.ravel(vectors.emb_NxD[start : start + ROW_GROUP])
            embedding = pa.FixedSizeListArray.from_arrays(pa.array(value_M), dim)
            rows = table.slice(start, ROW_GROUP).append_column(EMBEDDING, embedding)
            writer.write_table(rows)


def read_origin(text: str) -> dict[str, Any]:
    """Parses Vectors.origin from JSON; raises one of UNREADABLE where a key is missing."""
    origin = dict(json.loads(text))
    places = ("images",) if "images" in origin else ("store", "split")
    _ = [origin[name] for name in (*ORIGIN, *places)]
    return origin


def load(path: Path) -> Vectors:
    """Reads what `save` wrote; raises InputError for any other file."""
    try:
        vectors = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: first embed it, with embed --images") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read ({reason}): choose another file") from error
    except UNREADABLE as error:  # NumPy's own message advises to allow pickles.
        raise InputError(f"{path} was not written by painterjax.embed: embed again") from error
    shape, count = vectors.emb_NxD.shape, len(vectors.paintings)
    is_table = len(shape) == 2 and shape[0] == count and shape[1] > 0
    if vectors.emb_NxD.dtype != np.float32 or not is_table:
        raise InputError(f"{path} has {count} paintings but vectors of shape {shape}: embed again")
    return vectors


def _read_npz(path: Path) -> Vectors:
    # NumPy refuses pickles by default, which could run code.
    with open(path, "rb") as file, np.load(file) as table:
        values = [table[name].tolist() for name in PAINTING_COLUMNS]
        paintings = [Painting(*row) for row in zip(*values, strict=True)]
        origin = read_origin(str(table["origin"]))
        of_files = {name: table[name].tolist() for name in OF_FILES if name in table.files}
        return Vectors(table["emb_NxD"], paintings, origin, **of_files)


def _read_parquet(path: Path) -> Vectors:
    with pq.ParquetFile(path, memory_map=True) as file:
        table = file.read()
    origin = read_origin(table.schema.metadata[ORIGIN_KEY].decode())
    paintings = table.select(PAINTING_COLUMNS).replace_schema_metadata()
    if not paintings.schema.equals(columns.SCHEMA):
        raise TypeError(paintings.schema)
    embedding = table[EMBEDDING]
    emb_NxD = embedding.combine_chunks().flatten().to_numpy().reshape(-1, embedding.type.list_size)
    of_files = {name: table[name].to_pylist() for name in OF_FILES if name in table.column_names}
    return Vectors(emb_NxD, Paintings(paintings), origin, **of_files)
