"""Embeddings on disk: a .npz with the vectors, the paintings, and the run they come from."""

import dataclasses
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data.catalog import PAINTING_COLUMNS, Painting

# The keys that Vectors.origin always has; others say where the paintings were.
ORIGIN = ("run", "step", "network_sha256")
# The largest distance of two vectors of one image, relative to their length: half precision rounds.
SAME_IMAGE = 1e-3
# What reading a file of another kind, or a damaged one, can raise.
UNREADABLE = (
    AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
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
    paintings: list[Painting]
    origin: dict[str, Any]
    sha256: list[str] | None = None
    stamps: list[str] | None = None


def save(path: Path, vectors: Vectors) -> None:
    """Writes the whole file, with one array for each column of the paintings, or nothing."""
    columns = {
        name: np.array([getattr(painting, name) for painting in vectors.paintings], np.str_)
        for name in PAINTING_COLUMNS
    }
    arrays = {"emb_NxD": vectors.emb_NxD, "origin": np.array(json.dumps(vectors.origin)), **columns}
    for name in ("sha256", "stamps"):
        if (column := getattr(vectors, name)) is not None:
            arrays[name] = np.array(column, np.str_)
    # np.savez accepts no array called "file".
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_origin(text: str) -> dict[str, Any]:
    """Parses Vectors.origin from JSON; raises one of UNREADABLE where a key is missing."""
    origin = dict(json.loads(text))
    places = ("images",) if "images" in origin else ("store", "split")
    _ = [origin[name] for name in (*ORIGIN, *places)]
    return origin


def load(path: Path) -> Vectors:
    """Reads what `save` wrote; raises InputError for any other file."""
    try:
        # NumPy refuses pickles by default, which could run code.
        with open(path, "rb") as file, np.load(file) as table:
            columns = [table[name].tolist() for name in PAINTING_COLUMNS]
            paintings = [Painting(*values) for values in zip(*columns, strict=True)]
            origin = read_origin(str(table["origin"]))
            sha256, stamps = (
                table[name].tolist() if name in table.files else None
                for name in ("sha256", "stamps")
            )
            vectors = Vectors(table["emb_NxD"], paintings, origin, sha256, stamps)
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
