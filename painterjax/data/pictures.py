"""Pictures for people: a store's whole paintings, as JPEG files in one ZIP file.

    pictures.zip    <row>.jpg: at most images.PICTURE_SIDE pixels, by row of paintings.csv, stored
                    as they are

Any program that opens ZIP files shows them.
"""

import dataclasses
import functools
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

from painterjax.common.errors import InputError

NAME = "pictures.zip"


def write(path: Path, pictures: Iterable[bytes]) -> None:
    """Writes JPEG files as one ZIP file, which depends on nothing else."""
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for row, picture in enumerate(pictures):
                entry = zipfile.ZipInfo(f"{row}.jpg")  # of 1980
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                archive.writestr(entry, picture)
        file.flush()
        os.fsync(file.fileno())


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures in a store's folder, which are opened when the first is read."""

    path: Path

    def read(self, row: int) -> bytes:
        """Returns the JPEG file of a row of the store; raises InputError where it is damaged."""
        try:
            return self._archive.read(f"{row}.jpg")
        except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
            raise InputError(
                f"{self.path} is damaged ({error}): delete the store and prepare it again"
            ) from error

    @functools.cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)
