"""Which images of a folder training has used."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from painterjax.common import process_pool
from painterjax.common.progress import Progress
from painterjax.data import duplicates, images, raster, records, sources
from painterjax.data.catalog import Painting
from painterjax.data.store import Split, Store

USED = ("train", "val")  # Validation chooses the checkpoint and fits the calibration.


@dataclasses.dataclass(frozen=True)
class _Picture:
    """What tells whether an image and a stored one are the same picture."""

    file: str
    small_SxSxC: np.ndarray  # what duplicates.correlation compares
    pixels_sha256: str
    phash: str = ""  # "" for a flat picture


def images_used(
    store: Store, source: sources.Source, paintings: Sequence[Painting], *, workers: int
) -> set[str]:
    """Returns the files of those images that are in train or val of a store, under any name.

    These are duplicates of a painting there as `prepare` finds them: at the store's size they have
    equal pixels, or nearly equal ones by the criteria of data/duplicates.py. So what `prepare` left
    out as a duplicate of such a painting counts as well. It decodes the images, and hashes the
    store, about 1,000 of its images per second on one core. An image takes 3 kB of memory.

    Args:
      store: what a network was trained on.
      source: what loads the images.
      paintings: the images.
      workers: how many processes decode and hash.
    """
    splits = [store.splits[name] for name in USED]
    stored = list(_stored_fingerprints(splits, workers))
    pictures = list(_pictures(source.load, store.image_size, paintings, workers))
    equal = {fingerprint["pixels_sha256"] for fingerprint in stored}
    used = {picture.file for picture in pictures if picture.pixels_sha256 in equal}
    return used | _nearly_equal(splits, stored, pictures)


def _stored_fingerprints(splits: list[Split], workers: int) -> Iterator[dict[str, str]]:
    length = records.pixel_format(splits[0].image_NxSxSxC.shape[1]).chunk
    chunks = (
        np.array(split.image_NxSxSxC[start : start + length])
        for split in splits
        for start in range(0, len(split), length)
    )
    total = sum(map(len, splits))
    with Progress("hash what was trained on", total=total, unit="painting") as progress:
        for fingerprints in process_pool.ordered_map(_fingerprints, chunks, workers):
            yield from fingerprints
            progress.advance(len(fingerprints))


def _fingerprints(image_NxSxSxC: np.ndarray) -> list[dict[str, str]]:
    return [images.fingerprint(image_SxSxC) for image_SxSxC in image_NxSxSxC]


def _pictures(
    load: sources.Loader, size: int, paintings: Sequence[Painting], workers: int
) -> Iterator[_Picture]:
    """What can be decoded of the images."""
    decode = functools.partial(_decode, load, size)
    with Progress("compare with training", total=len(paintings), unit="image") as progress:
        for picture in process_pool.ordered_map(decode, paintings, workers):
            if picture:
                yield picture
            progress.advance(1)


def _decode(load: sources.Loader, size: int, painting: Painting) -> _Picture | None:
    try:
        _, image_SxSxC = load(painting, size)
    except images.ImageError:  # Embedding it will say why.
        return None
    return _Picture(painting.file, _small(image_SxSxC), **images.fingerprint(image_SxSxC))


def _small(image_SxSxC: np.ndarray) -> np.ndarray:
    return raster.thumbnail(image_SxSxC, duplicates.COMPARED_SIDE)


def _nearly_equal(
    splits: list[Split], stored: list[dict[str, str]], pictures: list[_Picture]
) -> set[str]:
    """The files of the pictures that nearly equal a stored one."""
    places = [(split, row) for split in splits for row in range(len(split))]
    hashed = [(place, s["phash"]) for place, s in zip(places, stored, strict=True) if "phash" in s]
    others = [picture for picture in pictures if picture.phash]
    hashes = [*(phash for _, phash in hashed), *(picture.phash for picture in others)]
    hash_NxB = np.array([list(bytes.fromhex(phash)) for phash in hashes], np.uint8)
    found: set[str] = set()
    for row, near_K in duplicates.candidates(hash_NxB):
        near = [others[i] for i in near_K - len(hashed) if i >= 0]
        if row < len(hashed) and near:
            (split, at), _ = hashed[row]
            small = [_small(split.image_NxSxSxC[at]), *(picture.small_SxSxC for picture in near)]
            is_same_K = duplicates.correlation(np.stack(small)) >= duplicates.MIN_CORRELATION
            found |= {p.file for p, is_same in zip(near, is_same_K, strict=True) if is_same}
    return found
