"""Which images of a folder training has used."""

import collections
import functools
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from painterjax.common import process_pool
from painterjax.common.progress import Progress
from painterjax.data import images, sources
from painterjax.data.catalog import Painting
from painterjax.data.store import Store

USED = ("train", "val")  # Validation chooses the checkpoint and fits the calibration.
# The mean difference of the values of pixels up to which two decoded images are one. JPEG decoders
# may differ by 1 in Y and Cb (ISO/IEC 10918-2), which is 1 + 1.772 in blue.
SAME = 2.8


def images_used(
    store: Store, source: sources.Source, paintings: Sequence[Painting], *, workers: int
) -> list[str]:
    """Returns the files of those images that are in train or val of a store.

    These have the file name of a painting there and, at the store's size, the same pixels up to
    a mean difference of SAME. Only images with such a name are decoded.

    Args:
      store: what a network was trained on.
      source: what loads the images.
      paintings: the images.
      workers: how many processes decode.
    """
    names = {_name(painting) for painting in paintings}
    stored = collections.defaultdict(list)
    for split in (store.splits[name] for name in USED):
        for row, painting in enumerate(split.paintings):
            if _name(painting) in names:
                stored[_name(painting)].append(split.image_NxSxSxC[row])
    alike = [painting for painting in paintings if _name(painting) in stored]
    if not alike:
        return []
    used = []
    load = functools.partial(_load, source.load, store.image_size)
    with Progress("compare with training", total=len(alike), unit="image") as progress:
        loaded = process_pool.ordered_map(load, alike, workers)
        for painting, image_SxSxC in zip(alike, loaded, strict=True):
            if any(_is_same(image_SxSxC, other_SxSxC) for other_SxSxC in stored[_name(painting)]):
                used.append(painting.file)
            progress.advance(1)
    return used


def _name(painting: Painting) -> str:
    return PurePath(painting.file).name


def _load(load: sources.Loader, size: int, painting: Painting) -> np.ndarray | None:
    try:
        return load(painting, size)[1]
    except images.ImageError:  # Embedding it will say why.
        return None


def _is_same(image_SxSxC: np.ndarray | None, other_SxSxC: np.ndarray) -> bool:
    if image_SxSxC is None:
        return False
    return bool(np.abs(image_SxSxC.astype(np.int16) - other_SxSxC).mean() <= SAME)
