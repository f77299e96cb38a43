"""Parquet files of images and their labels, as Hugging Face ships collections.

A row has an image, which is a struct of `bytes` and `path` or bytes alone, and labels: text, or
integers whose names lie in the schema's metadata under "huggingface".
"""

import contextlib
import dataclasses
import functools
import glob
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from painterjax.common.errors import InputError, words_of
from painterjax.data import columns, images, sources
from painterjax.data.catalog import Painting
from painterjax.data.columns import pc

BATCH = 32  # Images that are read at once; this bounds the memory.
# What Hugging Face's WikiArt calls an artist, or a genre, that it does not know.
UNKNOWN = ("unknown artist", "unknown genre")


def image_tables(
    pattern: str, *, image: str, artist: str, own_split: bool = False
) -> sources.Source:
    """Lists the rows of all Parquet files that match a pattern.

    The file of a painting is "<Parquet file>/<row>". Title, style, genre, date and `keep` are the
    columns of these names; so is `split`, with `own_split`.

    Args:
      pattern: as the shell's, and ** for folders at any depth.
      image: the column of the images.
      artist: the column of the artists.
      own_split: whether the column `split` says train, val or test.

    Raises:
      InputError: no file matches, one cannot be read, or a column is missing or of another type.
    """
    paths = sorted(filter(Path.is_file, map(Path, glob.glob(pattern, recursive=True))))
    if not paths:
        raise InputError(f"--input {pattern} matches no file: correct it, in quotation marks")
    directory = Path(os.path.commonpath([path.parent for path in paths]))
    parts = tuple(path.relative_to(directory).as_posix() for path in paths)
    required = {"artist": artist} | ({"split": "split"} if own_split else {})
    listed = [_listed(directory, part, image, required) for part in parts]
    table = pa.concat_tables(listed, promote_options="default").unify_dictionaries()
    read = functools.partial(read_images, directory, image)
    source = sources.from_table(Path(pattern), table, directory)
    return dataclasses.replace(source, load=load_image, parts=parts, read=read)


def read_images(
    directory: Path, image: str, paintings: Iterable[Painting]
) -> Iterator[bytes | None]:
    """Yields the image files of paintings that are sorted by file; None where there is none."""
    places = (painting.file.rpartition("/") for painting in paintings)
    for part, of_part in itertools.groupby(places, lambda place: place[0]):
        row_M = np.array([int(row) for *_, row in of_part])
        with _opened(directory / part) as file:
            yield from _values(file, image, row_M)


def load_image(
    painting: Painting, data: bytes | None, size: int, *, pictures: bool = False
) -> tuple[dict[str, Any], np.ndarray]:
    """Decodes the image of one row."""
    if data is None:
        raise images.ImageError("the row has no bytes of an image")
    return sources.load_bytes(data, size, pictures=pictures)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a file; what Arrow cannot read of it, now or later, is bad input."""
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read ({words_of(error)}): copy it again, or leave it out"
        ) from error


def _values(file: pq.ParquetFile, image: str, row_M: np.ndarray) -> Iterator[bytes | None]:
    """Yields the images of ascending rows; row groups without one are not read."""
    counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    end_G = np.cumsum(counts)
    first, last = np.searchsorted(end_G, row_M[[0, -1]], side="right").tolist()
    start = int(end_G[first]) - counts[first]
    groups = list(range(first, last + 1))
    for batch in file.iter_batches(BATCH, row_groups=groups, columns=[image]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, "bytes")
        row_B = row_M[(row_M >= start) & (row_M < start + len(values))] - start
        yield from (values[row].as_py() for row in row_B.tolist())
        start += len(values)


def _listed(directory: Path, part: str, image: str, required: dict[str, str]) -> pa.Table:
    """The listing of a file: what `sources.from_table` takes."""
    with _opened(directory / part) as file:
        schema = file.schema_arrow
        _check_image(directory / part, schema, image, required)
        known = {name: name for name in (*sources.KNOWN, sources.KEEP) if name in schema.names}
        taken = known | required
        read = file.read(sorted(set(taken.values())))
        row_N = pc.utf8_lpad(pa.array(np.arange(len(read))).cast(pa.string()), 8, "0")
        text = {"file": pc.binary_join_element_wise(part, row_N, "/").cast(columns.TEXT)}
        for name, column in taken.items():
            kind = columns.NAME if name in columns.NAMES else columns.TEXT
            text[name] = _text(directory / part, read[column], schema, column).cast(kind)
        return pa.table(text)


def _check_image(path: Path, schema: pa.Schema, image: str, required: dict[str, str]) -> None:
    if missing := [name for name in (image, *required.values()) if name not in schema.names]:
        raise InputError(
            f"{path} has no column {missing[0]} but {', '.join(schema.names)}: name one of them"
            " with --image-column or --artist-column"
        )
    found = schema.field(image).type
    has_bytes = pa.types.is_struct(found) and found.get_field_index("bytes") >= 0
    held = found.field("bytes").type if has_bytes else found
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held)):
        raise InputError(
            f"{path} has the column {image} of type {found}, not binary or a struct with bytes:"
            " name another with --image-column"
        )


def _text(path: Path, values: pa.ChunkedArray, schema: pa.Schema, column: str) -> pa.ChunkedArray:
    """A column as text, "" where it is null or unknown."""
    names = _class_names(schema, column)
    if pa.types.is_integer(values.type) and names:
        values = pc.if_else(pc.equal(values, -1), None, values.cast(pa.int64()))
        if (highest := pc.max(values).as_py() or 0) >= len(names):
            raise InputError(
                f"{path} has the label {highest} in column {column}, which has {len(names)} names:"
                " correct it"
            )
        values = pc.take(pa.array(names), values)
    elif pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise InputError(
            f"{path} has the column {column} of type {values.type}, not text or integers with names"
            " in the schema: name another column"
        )
    values = pc.fill_null(values, "")
    is_unknown = pc.is_in(pc.utf8_lower(values), pa.array(UNKNOWN, values.type))
    return pc.if_else(is_unknown, "", values)


def _class_names(schema: pa.Schema, column: str) -> list[str]:
    """The names of a Hugging Face ClassLabel."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    return []
