"""Every painting's pixels on disk, appended in order, so that an interrupted prepare can go on.

pixels.bin      uint8 images of S x S x 3, one behind the other
decoded.jsonl   the fate of each painting: its file, and its SHA-256 or the reason why not
"""

import functools
import json
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from painterjax import catalog, images, parallel, runlog, sources

MAX_CHUNK = 8  # Paintings per task: handing over costs little, and the bar moves smoothly.
CHUNK_BYTES = 2**24  # Of a task's pixels; what bounds the memory.

# What decoded.jsonl says of a painting.
Fate = dict[str, str]


def decode_all(source: sources.Source, folder: Path, *, size: int, workers: int) -> list[Fate]:
    """Decodes what `folder` does not have yet; returns the fate of every painting, in order."""
    journal_path, pixels_path = folder / "decoded.jsonl", folder / "pixels.bin"
    with open(journal_path, "ab+") as journal, open(pixels_path, "ab+") as pixels:
        done = _recover(journal, pixels, bytes_per_image=3 * size * size)
        left = source.paintings[done:]
        length = max(1, min(MAX_CHUNK, CHUNK_BYTES // (3 * size * size)))
        chunks = [left[i : i + length] for i in range(0, len(left), length)]
        decode = functools.partial(_decode_chunk, source.load, size)
        total = len(source.paintings)
        with runlog.Progress("prepare", total=total, unit="painting", done=done) as progress:
            for results in parallel.ordered_map(decode, chunks, workers):
                for _, image in results:
                    if image is not None:
                        pixels.write(image.tobytes())
                pixels.flush()  # The journal never speaks of pixels that a kill could still take.
                journal.write(b"".join(json.dumps(fate).encode() + b"\n" for fate, _ in results))
                journal.flush()
                progress.advance(len(results))
    return [json.loads(line) for line in journal_path.read_text().splitlines()]


def _recover(journal: BinaryIO, pixels: BinaryIO, *, bytes_per_image: int) -> int:
    """Cuts both files back to the last painting that is whole in both; returns how many are."""
    journal.seek(0)
    images_on_disk = pixels.seek(0, os.SEEK_END) // bytes_per_image
    done = num_images = end = 0
    for line in journal:
        has_image = b'"sha256"' in line
        if not line.endswith(b"\n") or num_images + has_image > images_on_disk:
            break
        done, num_images, end = done + 1, num_images + has_image, end + len(line)
    journal.truncate(end)
    pixels.truncate(num_images * bytes_per_image)
    return done


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
