"""How paintings are divided into train, val and test, and which artists are held out.

By artist, the default: a test artist's paintings are all in `test`; of each other artist's
paintings a tenth are in `val` and the rest in `train`. So `test` measures artists never seen in
training. Recipes are chosen on collections without the held-out artists, and results are reported
on these.
"""

import dataclasses
import hashlib
import itertools
import operator
import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data import columns
from painterjax.data.catalog import SPLITS
from painterjax.data.columns import Paintings
from painterjax.data.sources import Source

TRAIN, VAL, TEST = range(len(SPLITS))

HOLDOUT = "painterjax holdout"  # Another text would hold out other artists.
HOLDOUT_ONE_IN = 5  # artists
HELD_OUT = "its artist is held out"
HASHED_NAME = re.compile("[0-9a-f]{32}")  # As train_info.csv of Painter by Numbers has them.


def is_held_out(artist: str) -> bool:
    """Returns whether no recipe may be chosen by figures on this artist; true for a fifth of all.

    It depends on the letters and digits of the name alone, without case and accents, so an artist
    is held out of every collection or of none.

    >>> [is_held_out(name) for name in ("Claude Monet", "claude-monet", "Paul Cézanne")]
    [True, True, False]
    """
    digest = hashlib.sha256(f"{HOLDOUT}\x00{letters_of(artist)}".encode()).digest()
    return int.from_bytes(digest) % HOLDOUT_ONE_IN == 0


def letters_of(artist: str) -> str:
    """Returns the letters and digits of a name, which are the same in every spelling.

    >>> letters_of("Paul Cézanne") == letters_of("paul-cezanne")
    True
    """
    folded = unicodedata.normalize("NFC", artist).casefold()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", folded)))


def check_names(source: Source) -> None:
    """Raises InputError where names are hashes, which cannot tell whether an artist is held out."""
    artists, _ = columns.numbered(source.paintings.table["artist"])
    if hashed := list(filter(HASHED_NAME.fullmatch, artists)):
        raise InputError(
            f"{len(hashed)} of {len(artists)} artists' names are hashes, such as {hashed[0]}, so it"
            " is not known who is held out: use the artists' own names (for kaggle put"
            " all_data_info.csv beside train_info.csv)"
        )


def without_holdout(source: Source) -> Source:
    """Returns a source whose held-out artists are among the rejected, and says how many."""
    table = source.paintings.table
    artists, artist_N = columns.numbered(table["artist"])
    is_held_out_A = np.array([is_held_out(artist) for artist in artists], bool)
    is_held_out_N = is_held_out_A[artist_N]
    held_out = table["file"].filter(pa.array(is_held_out_N)).to_pylist()
    whose = counted(int(is_held_out_A.sum()), "held-out artist")
    print(f"  left out: {counted(len(held_out), 'file')} by {whose}")
    rejected = [*source.rejected, *((file, HELD_OUT) for file in held_out)]
    kept = Paintings(table.filter(pa.array(~is_held_out_N)))
    return dataclasses.replace(source, paintings=kept, rejected=rejected)


def by_artist(
    paintings: Paintings, *, test_fraction: float | None, val_fraction: float, seed: int
) -> tuple[pa.Table, Paintings]:
    """Splits paintings so that no artist is both in test and in train or val.

    A share `test_fraction` of the artists goes to `test` with all their paintings; None sends the
    held-out artists there. Of each other artist's n paintings floor(n * val_fraction) go to `val`,
    and at least two stay in `train`. The split depends on (seed, artist, file) alone, not on the
    order of `paintings`.

    Returns:
      The rows of the store, sorted by split, artist and file: the columns of `paintings`, and
      `split`; and the paintings left out because their artist has no other.

    >>> from painterjax.data.catalog import Painting
    >>> works = Paintings.of(Painting(f"{a}/{i}.jpg", a) for a in "abcde" for i in range(10))
    >>> rows, single = by_artist(works, test_fraction=0.2, val_fraction=0.1, seed=0)
    >>> [rows["split"].to_pylist().count(split) for split in SPLITS]
    [36, 4, 10]
    """
    table = columns.by_file(paintings.table)
    artists, artist_N = columns.numbered(table["artist"])
    count_A = np.bincount(artist_N, minlength=len(artists))
    several = [artists[artist] for artist in np.flatnonzero(count_A > 1)]
    if test_fraction is None:
        test_artists = set(filter(is_held_out, several))
    else:
        several.sort(key=lambda artist: _random_key(seed, artist))
        test_artists = set(several[: int(len(several) * test_fraction + 0.5)])
    split_A = np.array([TEST if artist in test_artists else TRAIN for artist in artists], np.int8)
    return _rows(table, artists, artist_N, split_A[artist_N], val_fraction, seed)


def as_given(paintings: Paintings, *, val_fraction: float, seed: int) -> tuple[pa.Table, Paintings]:
    """Splits paintings by their column `split`; an artist may then be in train and in test.

    Args:
      paintings: the paintings.
      val_fraction: the share of an artist's training paintings to move to val, as `by_artist` does.
      seed: of what is moved.

    Returns:
      The same as `by_artist`.
    """
    table = columns.by_file(paintings.table)
    artists, artist_N = columns.numbered(table["artist"])
    names, number_N = columns.numbered(table["split"])
    split_N = np.array([SPLITS.index(name) for name in names], np.int8)[number_N]
    table = table.drop_columns("split")
    return _rows(table, artists, artist_N, split_N, val_fraction, seed)


def _random_key(seed: int, *names: str) -> bytes:
    """A pseudo-random sort key, the same on every machine."""
    return hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()


def _rows(
    table: pa.Table,
    artists: list[str],
    artist_N: np.ndarray,
    split_N: np.ndarray,
    val_fraction: float,
    seed: int,
) -> tuple[pa.Table, Paintings]:
    """The sorted rows, with a part of each artist's training paintings moved to val; the single."""
    is_single_N = (np.bincount(artist_N) == 1)[artist_N]
    row_M = np.flatnonzero(~is_single_N)
    # The sort is stable: by file within an artist, as the table is.
    row_M = row_M[np.argsort(artist_N[row_M], kind="stable")]
    train_M = row_M[split_N[row_M] == TRAIN]
    split_N[_to_val(table["file"], train_M, artists, artist_N[train_M], val_fraction, seed)] = VAL
    row_M = row_M[np.argsort(split_N[row_M], kind="stable")]
    split = columns.name_column(SPLITS, split_N[row_M])
    rows = table.take(pa.array(row_M)).add_column(0, "split", split)
    return rows, Paintings(table.filter(pa.array(is_single_N)))


def _to_val(
    file: pa.ChunkedArray,
    row_M: np.ndarray,
    artists: list[str],
    artist_M: np.ndarray,
    val_fraction: float,
    seed: int,
) -> list[int]:
    """Which of these training rows, sorted by artist, go to val: of each artist a random part."""
    count_A = np.bincount(artist_M, minlength=len(artists))
    # 100 * 0.29 is 28.999999999999996 and has to count as 29.
    num_val_A = np.minimum((count_A * val_fraction + 1e-9).astype(np.int64), count_A - 2)
    row_M = row_M[num_val_A[artist_M] > 0]
    names, rows, chosen = _values(file, row_M), iter(row_M.tolist()), []
    for artist in np.flatnonzero(num_val_A > 0):
        count = count_A[artist]
        start = hashlib.sha256("\x00".join((str(seed), artists[artist], "")).encode())
        keyed = []
        for name, row in zip(itertools.islice(names, count), rows, strict=False):
            key = start.copy()
            key.update(name.encode())
            keyed.append((key.digest(), row))
        keyed.sort(key=operator.itemgetter(0))
        chosen += [row for _, row in keyed[: num_val_A[artist]]]
    return chosen


def _values(column: pa.ChunkedArray, row_M: np.ndarray) -> Iterator[str]:
    for start in range(0, len(row_M), columns.CHUNK):
        yield from column.take(pa.array(row_M[start : start + columns.CHUNK])).to_pylist()
