"""A store's images as JPEG files in one ArrayRecord file, decoded where they are read.

    images.array_record    <row>: one JPEG file of S x S pixels, rows as in images.npy

A tenth of the bytes of images.npy, for collections whose pixels do not fit on the disk.
"""

import functools
import io
import os
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from painterjax.common import cli
from painterjax.common.errors import InputError

NAME = "images.array_record"
QUALITY = 90
DECODED_AT_ONCE = 512  # images, by np.asarray


class EncodedImages:
    """Some rows of the file, read as if they were an array of uint8 N x S x S x 3.

    A slice is such rows again; a number is one image, and an array of numbers, of any shape, as
    many. These are decoded on all cores.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path, rows: range, *, size: int) -> None:
        self.path, self.rows = path, rows
        self.shape = (len(rows), size, size, 3)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """The bytes of all images when they are decoded."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return EncodedImages(self.path, self.rows[key], size=self.shape[1])
        if np.ndim(key) == 0:
            return self._decoded([self.rows[key]])[0]
        number_M = np.ravel(key)
        image_MxSxSxC = self._decoded([self.rows[number] for number in number_M])
        return image_MxSxSxC.reshape(*np.shape(key), *self.shape[1:])

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), DECODED_AT_ONCE):
            yield from self[np.arange(start, min(start + DECODED_AT_ONCE, len(self)))]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Decodes all rows, for NumPy, which asks for no other type than uint8 here."""
        image_NxSxSxC = np.empty(self.shape, np.uint8)
        for row, image_SxSxC in enumerate(self):
            image_NxSxSxC[row] = image_SxSxC
        return image_NxSxSxC if dtype is None else image_NxSxSxC.astype(dtype, copy=False)

    def _decoded(self, rows: list[int]) -> np.ndarray:
        """Returns rows of the file: uint8 M x S x S x 3."""
        try:
            records = _source(self.path).__getitems__(rows)
            image_MxSxSxC = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for number, image_SxSxC in enumerate(_threads().map(decode, records)):
                image_MxSxSxC[number] = image_SxSxC
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.path} is damaged ({error}): delete the store and prepare it again"
            ) from error
        return image_MxSxSxC


def write(path: Path, files: Iterable[bytes]) -> None:
    """Writes what `encode` returned of each row."""
    # Here, so that processes which only decode need not wait for it.
    from array_record.python import array_record_module  # pyright: ignore

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for data in files:
        writer.write(data)
    writer.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def count(path: Path) -> int:
    """Returns how many images a file has; raises InputError where it is no such file."""
    try:
        return len(_source(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): delete the store and prepare it again"
        ) from error


def encode(image_SxSxC: np.ndarray) -> bytes:
    """Returns an image as a JPEG file."""
    data = io.BytesIO()
    # Colors at full resolution: a small image of a painting has no pixels to spare.
    Image.fromarray(image_SxSxC).save(data, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return data.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Returns the image of a JPEG file; raises OSError where it is damaged."""
    return np.asarray(Image.open(io.BytesIO(data)))


@functools.cache
def _threads() -> futures.ThreadPoolExecutor:
    """One for each core; libjpeg works without Python's lock."""
    return futures.ThreadPoolExecutor(cli.cores())


@functools.lru_cache(maxsize=8)
def _source(path: Path) -> Any:
    import grain

    return grain.sources.ArrayRecordDataSource(str(path))
