"""Decoded images on disk, appended in order, so that interrupted work can be resumed.

decoded.jsonl   one line for each painting: its file, and its SHA-256 and size, and what tells
                duplicates, or the reason for rejecting it
records.bin     one record for each decoded image: its pixels or its embedding, which are of fixed
                length, or its JPEG file
pictures.bin    the picture for people of each decoded image, as JPEG, if these are kept
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from painterjax.common import process_pool
from painterjax.common.progress import Progress
from painterjax.data import encoded, images, sources
from painterjax.data.catalog import Painting

MAX_CHUNK = 8  # Images per task: handing over costs little, and the progress bar moves smoothly.
CHUNK_BYTES = 2**24  # Of a task's pixels; this bounds the memory.

RESULTS, RECORDS, PICTURES = "decoded.jsonl", "records.bin", "pictures.bin"
LENGTHS = {RECORDS: "record_bytes", PICTURES: "picture_bytes"}
# A line of decoded.jsonl: "file", and "reason" for a rejected image; for a decoded one "sha256",
# "area" in pixels, the LENGTHS of its JPEG files, and what `describe` returns.
DecodeResult = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """How images are decoded, and what is stored of each."""

    image_size: int  # the side S
    convert: Callable[[list[np.ndarray]], np.ndarray] | None  # B decoded images to B records, in
    # order; None keeps them as JPEG files
    record_bytes: int  # 0 for JPEG files
    chunk: int  # images that are decoded, and converted, at once
    # image_SxSxC to more of its result; workers run it, so it must pickle.
    describe: Callable[[np.ndarray], DecodeResult] | None = None
    pictures: bool = False  # whether pictures for people are kept


def pixel_format(image_size: int, *, pictures: bool = False, jpeg: bool = False) -> RecordFormat:
    """Stores the images themselves, as pixels or as JPEG files."""
    nbytes = 3 * image_size**2
    chunk = max(1, min(MAX_CHUNK, CHUNK_BYTES // nbytes))
    convert, length = (None, 0) if jpeg else (np.stack, nbytes)
    return RecordFormat(image_size, convert, length, chunk, images.fingerprint, pictures)


@dataclasses.dataclass(frozen=True)
class DecodedImages:
    """The images that a folder holds in pixel_format, and the result of each painting."""

    folder: Path
    image_size: int
    results: list[DecodeResult]

    def __len__(self) -> int:
        return sum("sha256" in result for result in self.results)

    def images(self, row_N: np.ndarray) -> np.ndarray:
        """Returns some images: uint8 N x S x S x 3."""
        if self.ends[RECORDS][-1]:
            return np.stack([encoded.decode(data) for data in read_files([self], row_N, RECORDS)])
        pixels = np.memmap(self.folder / RECORDS, np.uint8, "r")
        return pixels.reshape(-1, self.image_size, self.image_size, 3)[row_N]

    @functools.cached_property
    def ends(self) -> dict[str, np.ndarray]:
        """Where the JPEG file of each image ends in RECORDS and PICTURES, in bytes."""
        decoded = [result for result in self.results if "sha256" in result]
        lengths = {name: [r.get(key, 0) for r in decoded] for name, key in LENGTHS.items()}
        return {name: np.cumsum(each) for name, each in lengths.items()}


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
        tasks = sources.tasks(source, done)
        chunks = iter(lambda: list(itertools.islice(tasks, stored.chunk)), [])
        load = functools.partial(source.load, pictures=True) if stored.pictures else source.load
        jpeg = stored.convert is None  # Which may not pickle.
        decode = functools.partial(
            _decode_chunk, load, stored.image_size, stored.describe, jpeg=jpeg
        )
        total = len(source.paintings)
        with Progress(label, total=total, unit="painting", done=done) as progress:
            for results in process_pool.ordered_map(decode, chunks, workers):
                decoded: list[Any] = [image for _, image, _ in results if image is not None]
                if decoded and stored.convert is not None:
                    decoded = [stored.convert(decoded).tobytes()]
                records.writelines(decoded)
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
    for name in (RESULTS, RECORDS):
        (folder / name).touch()
    lines = _complete_lines(folder, record_bytes)
    os.truncate(folder / RESULTS, sum(map(len, lines)))
    for name in LENGTHS:
        if (folder / name).exists():
            os.truncate(folder / name, sum(_length(line, name, record_bytes) for line in lines))
    return [json.loads(line) for line in lines]


def read_decoded(folder: Path, *, image_size: int) -> DecodedImages:
    """Returns what is complete in `folder`, which may be nothing; changes nothing on disk."""
    is_begun = (folder / RESULTS).exists() and (folder / RECORDS).exists()
    lines = _complete_lines(folder, 3 * image_size**2) if is_begun else []
    return DecodedImages(folder, image_size, [json.loads(line) for line in lines])


def gather(parts: list[DecodedImages], place_N: np.ndarray) -> np.ndarray:
    """Returns image_NxSxSxC: the images at these places, counted through all parts."""
    first = np.cumsum([0, *map(len, parts)])
    part_N = np.searchsorted(first, place_N, side="right") - 1
    size = parts[0].image_size
    image_NxSxSxC = np.empty((len(place_N), size, size, 3), np.uint8)
    for number in np.unique(part_N):
        here = part_N == number
        image_NxSxSxC[here] = parts[number].images(place_N[here] - first[number])
    return image_NxSxSxC


def read_files(parts: list[DecodedImages], place_N: np.ndarray, name: str) -> Iterator[bytes]:
    """Yields the JPEG files at these places of RECORDS or PICTURES, counted through all parts."""
    first = np.cumsum([0, *map(len, parts)])
    part_N = np.searchsorted(first, place_N, side="right") - 1
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open(part.folder / name, "rb")) for part in parts]
        for number, place in zip(part_N, place_N - first[part_N], strict=True):
            ends = parts[number].ends[name]
            start = int(ends[place - 1]) if place else 0
            opened[number].seek(start)
            yield opened[number].read(int(ends[place]) - start)


def _complete_lines(folder: Path, record_bytes: int) -> list[bytes]:
    """The lines up to the first that is incomplete, or whose image is not in the other files."""
    left = {name: _size(folder / name) for name in LENGTHS}
    lines: list[bytes] = []
    with open(folder / RESULTS, "rb") as results:
        for line in results:
            # A kill cuts a line short; a power cut may leave zeros.
            if not line.endswith(b"\n") or b"\0" in line:
                break
            for name in LENGTHS:
                left[name] -= _length(line, name, record_bytes)
            if min(left.values()) < 0:
                break
            lines.append(line)
    return lines


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _length(line: bytes, name: str, record_bytes: int) -> int:
    """How many bytes of a file belong to a line; `record_bytes` of the records if it is silent."""
    match = re.search(rb'"%s": (\d+)' % LENGTHS[name].encode(), line)
    if match:
        return int(match[1])
    return record_bytes if name == RECORDS and b'"sha256"' in line else 0


def _decode_chunk(
    load: sources.Loader,
    size: int,
    describe: Callable[[np.ndarray], DecodeResult] | None,
    tasks: list[tuple[Painting, ...]],
    *,
    jpeg: bool,
) -> list[tuple[DecodeResult, np.ndarray | bytes | None, bytes]]:
    results = []
    for painting, *data in tasks:
        try:
            result, image = load(painting, *data, size)
            picture = result.pop("picture", b"")
            described = describe(image) if describe else {}
            if jpeg:
                image = encoded.encode(image)
                described["record_bytes"] = len(image)
            sizes = {"picture_bytes": len(picture)} if picture else {}
            result = {"file": painting.file, **result, **sizes, **described}
            results.append((result, image, picture))
        except images.ImageError as reason:
            results.append(({"file": painting.file, "reason": str(reason)}, None, b""))
    return results
