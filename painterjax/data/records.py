"""A record of every painting on disk, appended in order, so that interrupted work can go on.

records.bin     what is kept of each decoded image, one behind the other: its pixels or its vector
decoded.jsonl   the fate of each painting: its file, and its SHA-256 or the reason why not
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from painterjax.common import process_pool
from painterjax.common.progress import Progress
from painterjax.data import catalog, images, sources

MAX_CHUNK = 8  # Paintings per task: handing over costs little, and the bar moves smoothly.
CHUNK_BYTES = 2**24  # Of a task's pixels; what bounds the memory.

JOURNAL, RECORDS = "decoded.jsonl", "records.bin"
# What decoded.jsonl says of a painting.
Fate = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Keeping:
    """What is kept of decoded images.

    Attributes:
      convert: maps image_BxSxSxC to an array with a record for each, in order.
      bytes_per_image: the size of a record.
      chunk: how many images are decoded, and converted, at once.
    """

    convert: Callable[[np.ndarray], np.ndarray]
    bytes_per_image: int
    chunk: int


@dataclasses.dataclass(frozen=True)
class Part:
    """What a folder has of a source: the fate of each painting, and the images of some."""

    folder: Path
    fates: list[Fate]

    @property
    def num_images(self) -> int:
        """How many images are in records.bin."""
        return sum("sha256" in fate for fate in self.fates)


def pixels(size: int) -> Keeping:
    """Keeps the images themselves."""
    nbytes = 3 * size * size
    return Keeping(lambda images: images, nbytes, max(1, min(MAX_CHUNK, CHUNK_BYTES // nbytes)))


def decode_all(
    source: sources.Source, folder: Path, *, size: int, workers: int, keeping: Keeping, what: str
) -> list[Fate]:
    """Decodes what `folder` does not have yet; returns the fate of every painting, in order.

    Args:
      source: the paintings; in front those that `recovered` tells of.
      folder: where records.bin and decoded.jsonl are, or will be.
      size: the side S of decoded images.
      workers: processes that decode.
      keeping: what is kept of them.
      what: names the work on the progress bar.
    """
    done = len(recovered(folder, bytes_per_image=keeping.bytes_per_image))
    with open(folder / JOURNAL, "ab") as journal, open(folder / RECORDS, "ab") as records:
        left, length = source.paintings[done:], keeping.chunk
        chunks = [left[i : i + length] for i in range(0, len(left), length)]
        decode = functools.partial(_decode_chunk, source.load, size)
        total = len(source.paintings)
        with Progress(what, total=total, unit="painting", done=done) as progress:
            for results in process_pool.ordered_map(decode, chunks, workers):
                decoded = [image for _, image in results if image is not None]
                if decoded:
                    records.write(keeping.convert(np.stack(decoded)).tobytes())
                # The journal never speaks of records that a loss of power could still take.
                records.flush()
                os.fsync(records.fileno())
                journal.write(b"".join(json.dumps(fate).encode() + b"\n" for fate, _ in results))
                journal.flush()
                progress.advance(len(results))
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def read(folder: Path, *, size: int) -> Part:
    """Returns what `folder` has whole of images that are kept as pixels, which may be nothing."""
    journal, records = folder / JOURNAL, folder / RECORDS
    if not (journal.exists() and records.exists()):
        return Part(folder, [])
    with open(journal, "rb") as lines:
        images_on_disk = records.stat().st_size // pixels(size).bytes_per_image
        return Part(folder, [json.loads(line) for line in _whole_lines(lines, images_on_disk)])


def gather(parts: list[Part], place_N: np.ndarray, *, size: int) -> np.ndarray:
    """Returns image_NxSxSxC: the images at these places, counted through all parts."""
    first = np.cumsum([0, *(part.num_images for part in parts)])
    part_N = np.searchsorted(first, place_N, side="right") - 1
    image_NxSxSxC = np.empty((len(place_N), size, size, 3), np.uint8)
    for number in np.unique(part_N):
        records = np.memmap(parts[number].folder / RECORDS, np.uint8, "r")
        here = part_N == number
        image_NxSxSxC[here] = records.reshape(-1, size, size, 3)[place_N[here] - first[number]]
    return image_NxSxSxC


def recovered(folder: Path, *, bytes_per_image: int) -> list[Fate]:
    """Returns the fates that are whole on disk, in order; what a kill cut short is removed."""
    with open(folder / JOURNAL, "ab+") as journal, open(folder / RECORDS, "ab+") as records:
        journal.seek(0)
        lines = _whole_lines(journal, records.seek(0, os.SEEK_END) // bytes_per_image)
        journal.truncate(sum(map(len, lines)))
        records.truncate(sum(map(_has_image, lines)) * bytes_per_image)
    return [json.loads(line) for line in lines]


def _whole_lines(journal: BinaryIO, images_on_disk: int) -> list[bytes]:
    """The journal's lines up to the last painting that is whole in it and in the records."""
    lines, num_images = [], 0
    for line in journal:
        num_images += _has_image(line)
        # A kill cuts a line short; after a loss of power there may be zeros.
        if not line.endswith(b"\n") or b"\0" in line or num_images > images_on_disk:
            break
        lines.append(line)
    return lines


def _has_image(line: bytes) -> bool:
    return b'"sha256"' in line


def _decode_chunk(
    load: sources.Loader, size: int, paintings: list[catalog.Painting]
) -> list[tuple[Fate, np.ndarray | None]]:
    return [_decode_one(load, size, painting) for painting in paintings]


def _decode_one(
    load: sources.Loader, size: int, painting: catalog.Painting
) -> tuple[Fate, np.ndarray | None]:
    try:
        digest, image = load(painting, size)
        return {"file": painting.file, "sha256": digest}, image
    except images.ImageError as reason:
        return {"file": painting.file, "reason": str(reason)}, None
