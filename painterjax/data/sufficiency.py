"""What training needs of a collection: a validation fraction that gives it, or what is missing."""

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import columns, sampling
from painterjax.data.sources import Source
from painterjax.data.store import VAL_FRACTION, Split, Store

FEWEST_VALIDATED = 2  # Paintings by one artist: they give a pair.
AGAIN = "prepare it again into another --output"


def val_fraction(source: Source) -> float:
    """Returns VAL_FRACTION, or more where half of the artists would not get two in validation.

    Artists with fewer than four paintings do not count: two stay in training.
    """
    table = source.paintings.table
    if source.has_split:
        names, number_N = columns.numbered(table["split"])
        table = table.filter(pa.array(np.array(names)[number_N] == "train"))
    count_A = np.bincount(columns.numbered(table["artist"])[1])
    able = np.sort(count_A[count_A >= FEWEST_VALIDATED + 2])
    if not len(able):
        return VAL_FRACTION
    median = int(able[(len(able) - 1) // 2])
    # Three digits, rounded up, so that the floor of the share is two.
    return max(VAL_FRACTION, math.ceil(1000 * FEWEST_VALIDATED / median) / 1000)


def shortcomings(store: Store) -> Iterator[str]:
    """Yields a line for each thing that training or evaluation needs and a store has not."""
    train, val, test = (store.splits[name] for name in ("train", "val", "test"))
    artists = counted(len(train.artists), "artist")
    if not _gives_tuples(train):
        yield f"train refuses this store, with {artists} in train: add artists, and {AGAIN}"
        return
    if not _gives_tuples(val):
        yield (
            "train refuses this store: validation needs two artists, one of them with two"
            f" paintings, and has {counted(len(val), 'painting')} by"
            f" {counted(len(val.artists), 'artist')}: add paintings or raise --val-fraction, and"
            f" {AGAIN}"
        )
    if not _gives_tuples(test):
        yield (
            "there will be no figures on artists never seen: test needs two artists, and has"
            f" {len(test.artists)}: add artists or raise --test-fraction, and {AGAIN}"
        )


def _gives_tuples(split: Split) -> bool:
    try:
        sampling.artist_rows(split.artist_N)
    except InputError:
        return False
    return True
