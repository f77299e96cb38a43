"""Decoded images on disk, appended in order, so that interrupted work can be resumed.

decoded.jsonl   one line for each painting: its file, and its SHA-256 and size, and what tells
                duplicates, or the reason for rejecting it
records.bin     one record of fixed length for each decoded image: its pixels or its embedding
pictures.bin    the picture for people of each decoded image, as JPEG, if these are kept
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from painterjax.common import process_pool
from painterjax.common.progress import Progress
from painterjax.data import images, sources
from painterjax.data.catalog import Painting

MAX_CHUNK = 8  # Images per task: handing over costs little, and the progress bar moves smoothly.
CHUNK_BYTES = 2**24  # Of a task's pixels; this bounds the memory.

RESULTS, RECORDS, PICTURES = "decoded.jsonl", "records.bin", "pictures.bin"
# A line of decoded.jsonl: "file", and "reason" for a rejected image; for a decoded one "sha256",
# "area" in pixels, the length of its picture as "picture_bytes", and what `describe` returns.
DecodeResult = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """How images are decoded, and what is stored of each."""

    image_size: int  # the side S
    convert: Callable[[list[np.ndarray]], np.ndarray]  # B decoded images to B records, in order
    record_bytes: int
    chunk: int  # images that are decoded, and converted, at once
    # image_SxSxC to more of its result; workers run it, so it must pickle.
    describe: Callable[[np.ndarray], DecodeResult] | None = None
    pictures: bool = False  # whether pictures for people are kept


def pixel_format(image_size: int, *, pictures: bool = False) -> RecordFormat:
    """Stores the images themselves."""
    nbytes = 3 * image_size**2
    chunk = max(1, min(MAX_CHUNK, CHUNK_BYTES // nbytes))
    return RecordFormat(image_size, np.stack, nbytes, chunk, images.fingerprint, pictures)


@dataclasses.dataclass(frozen=True)
class DecodedImages:
    """The images that a folder holds in pixel_format, and the result of each painting."""

    folder: Path
    image_size: int
    results: list[DecodeResult]

    def __len__(self) -> int:
        return sum("sha256" in result for result in self.results)

    def mapped(self) -> np.ndarray:
        """Returns a memory map image_NxSxSxC; N must not be 0."""
        pixels = np.memmap(self.folder / RECORDS, np.uint8, "r")
        return pixels.reshape(-1, self.image_size, self.image_size, 3)

    @functools.cached_property
    def picture_ends(self) -> np.ndarray:
        """Where the picture of each image ends in PICTURES, in bytes."""
        return np.cumsum([r["picture_bytes"] for r in self.results if "sha256" in r])


def decode_all(
    source: sources.Source,
    folder: Path,
    stored: RecordFormat,
    *,
    workers: process_pool.Workers,
    label: str,
) -> list[DecodeResult]:
    """Decodes what `folder` has no result of yet; returns the results of all paintings, in order.

    The paintings whose results `recover` returns must come first in `source`, in that order. The
    progress bar shows the label.
    """
    done = len(recover(folder, record_bytes=stored.record_bytes))
    with (
        open(folder / RESULTS, "ab") as lines,
        open(folder / RECORDS, "ab") as records,
        open(folder / PICTURES, "ab") if stored.pictures else contextlib.nullcontext() as pictures,
    ):
        left, length = source.paintings[done:], stored.chunk
        chunks = [left[i : i + length] for i in range(0, len(left), length)]
        load = functools.partial(source.load, pictures=True) if stored.pictures else source.load
        decode = functools.partial(_decode_chunk, load, stored.image_size, stored.describe)
        total = len(source.paintings)
        with Progress(label, total=total, unit="painting", done=done) as progress:
            for results in process_pool.ordered_map(decode, chunks, workers):
                decoded = [image for _, image, _ in results if image is not None]
                if decoded:
                    records.write(stored.convert(decoded).tobytes())
                # Synced first, so that after a power cut no line lacks its record.
                _sync(records)
                if pictures is not None:
                    pictures.writelines(picture for *_, picture in results)
                    _sync(pictures)
                lines.writelines(json.dumps(result).encode() + b"\n" for result, *_ in results)
                lines.flush()
                progress.advance(len(results))
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def recover(folder: Path, *, record_bytes: int) -> list[DecodeResult]:
    """Returns the results on disk, in order, and cuts off what an interruption left incomplete."""
    with open(folder / RESULTS, "ab+") as results, open(folder / RECORDS, "ab+") as records:
        results.seek(0)
        count = records.seek(0, os.SEEK_END) // record_bytes
        lines = _complete_lines(results, count, _size(folder / PICTURES))
        results.truncate(sum(map(len, lines)))
        records.truncate(sum(map(_has_image, lines)) * record_bytes)
    if (folder / PICTURES).exists():
        os.truncate(folder / PICTURES, sum(map(_picture_bytes, lines)))
    return [json.loads(line) for line in lines]


def read_decoded(folder: Path, *, image_size: int) -> DecodedImages:
    """Returns what is complete in `folder`, which may be nothing; changes nothing on disk."""
    results, records = folder / RESULTS, folder / RECORDS
    lines: list[bytes] = []
    if results.exists() and records.exists():
        with open(results, "rb") as file:
            count = records.stat().st_size // pixel_format(image_size).record_bytes
            lines = _complete_lines(file, count, _size(folder / PICTURES))
    return DecodedImages(folder, image_size, [json.loads(line) for line in lines])


def gather(parts: list[DecodedImages], place_N: np.ndarray) -> np.ndarray:
    """Returns image_NxSxSxC: the images at these places, counted through all parts."""
    first = np.cumsum([0, *map(len, parts)])
    part_N = np.searchsorted(first, place_N, side="right") - 1
    size = parts[0].image_size
    image_NxSxSxC = np.empty((len(place_N), size, size, 3), np.uint8)
    for number in np.unique(part_N):
        here = part_N == number
        image_NxSxSxC[here] = parts[number].mapped()[place_N[here] - first[number]]
    return image_NxSxSxC


def read_pictures(parts: list[DecodedImages], place_N: np.ndarray) -> Iterator[bytes]:
    """Yields the pictures at these places, counted through all parts, one after the other."""
    first = np.cumsum([0, *map(len, parts)])
    part_N = np.searchsorted(first, place_N, side="right") - 1
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open(part.folder / PICTURES, "rb")) for part in parts]
        for number, place in zip(part_N, place_N - first[part_N], strict=True):
            ends = parts[number].picture_ends
            start = int(ends[place - 1]) if place else 0
            opened[number].seek(start)
            yield opened[number].read(int(ends[place]) - start)


def _complete_lines(results: BinaryIO, num_records: int, num_bytes: int) -> list[bytes]:
    """The lines up to the first that is incomplete, or whose image is not among the records.

    `num_bytes` is the size of the pictures.
    """
    lines, num_images, picture_bytes = [], 0, 0
    for line in results:
        # A kill cuts a line short; a power cut may leave zeros.
        if not line.endswith(b"\n") or b"\0" in line:
            break
        num_images += _has_image(line)
        picture_bytes += _picture_bytes(line)
        if num_images > num_records or picture_bytes > num_bytes:
            break
        lines.append(line)
    return lines


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _picture_bytes(line: bytes) -> int:
    match = re.search(rb'"picture_bytes": (\d+)', line)
    return int(match[1]) if match else 0


def _has_image(line: bytes) -> bool:
    return b'"sha256"' in line


def _decode_chunk(
    load: sources.Loader,
    size: int,
    describe: Callable[[np.ndarray], DecodeResult] | None,
    paintings: list[Painting],
) -> list[tuple[DecodeResult, np.ndarray | None, bytes]]:
    results = []
    for painting in paintings:
        try:
            result, image = load(painting, size)
            picture = result.pop("picture", b"")
            described = describe(image) if describe else {}
            sizes = {"picture_bytes": len(picture)} if picture else {}
            result = {"file": painting.file, **result, **sizes, **described}
            results.append((result, image, picture))
        except images.ImageError as reason:
            results.append(({"file": painting.file, "reason": str(reason)}, None, b""))
    return results
