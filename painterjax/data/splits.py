"""How paintings are divided into train, val and test, and which artists are held out.

By artist, the default: a test artist's paintings are all in `test`; of each other artist's
paintings a tenth are in `val` and the rest in `train`. So `test` measures artists never seen in
training. Recipes are chosen on collections without the held-out artists, and results are reported
on these.
"""

import collections
import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

from painterjax.common.errors import InputError
from painterjax.common.progress import counted
from painterjax.data.catalog import SPLITS, Painting, Row
from painterjax.data.sources import Source

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
    artists = {painting.artist for painting in source.paintings}
    if hashed := sorted(filter(HASHED_NAME.fullmatch, artists)):
        raise InputError(
            f"{len(hashed)} of {len(artists)} artists' names are hashes, such as {hashed[0]}, so it"
            " is not known who is held out: use the artists' own names (for kaggle put"
            " all_data_info.csv beside train_info.csv)"
        )


def without_holdout(source: Source) -> Source:
    """Returns a source whose held-out artists are among the rejected, and says how many."""
    held_out = [painting for painting in source.paintings if is_held_out(painting.artist)]
    kept = [painting for painting in source.paintings if not is_held_out(painting.artist)]
    artists = len({painting.artist for painting in held_out})
    whose = counted(artists, "held-out artist")
    print(f"  left out: {counted(len(held_out), 'file')} by {whose}")
    rejected = [*source.rejected, *((painting.file, HELD_OUT) for painting in held_out)]
    return dataclasses.replace(source, paintings=kept, rejected=rejected)


def by_artist(
    paintings: Iterable[Painting], *, test_fraction: float | None, val_fraction: float, seed: int
) -> tuple[list[Row], list[Painting]]:
    """Splits paintings so that no artist is both in test and in train or val.

    A share `test_fraction` of the artists goes to `test` with all their paintings; None sends the
    held-out artists there. Of each other artist's n paintings floor(n * val_fraction) go to `val`,
    and at least two stay in `train`. The split depends on (seed, artist, file) alone, not on the
    order of `paintings`.

    Returns:
      The rows of the store, sorted by split, artist and file; and the paintings left out because
      their artist has no other.

    >>> works = [Painting(f"{a}/{i}.jpg", a) for a in "abcde" for i in range(10)]
    >>> rows, single = by_artist(works, test_fraction=0.2, val_fraction=0.1, seed=0)
    >>> [sum(row.split == split for row in rows) for split in SPLITS]
    [36, 4, 10]
    """
    works_by_artist, single = _by_artist(paintings)
    artists = list(works_by_artist)
    if test_fraction is None:
        test_artists = set(filter(is_held_out, artists))
    else:
        artists.sort(key=lambda artist: _random_key(seed, artist))
        test_artists = set(artists[: int(len(artists) * test_fraction + 0.5)])

    def split_of(painting: Painting) -> str:
        return "test" if painting.artist in test_artists else "train"

    return _rows(works_by_artist, split_of, val_fraction, seed), single


def as_given(
    paintings: Iterable[Painting],
    split_by_file: Mapping[str, str],
    *,
    val_fraction: float,
    seed: int,
) -> tuple[list[Row], list[Painting]]:
    """Splits paintings as their source does; an artist may then be in train and in test.

    Args:
      paintings: the paintings.
      split_by_file: the split of each.
      val_fraction: the share of an artist's training paintings to move to val, as `by_artist` does.
      seed: of what is moved.

    Returns:
      The same as `by_artist`.
    """
    works_by_artist, single = _by_artist(paintings)
    rows = _rows(works_by_artist, lambda p: split_by_file[p.file], val_fraction, seed)
    return rows, single


def _random_key(seed: int, *names: str) -> bytes:
    """A pseudo-random sort key, the same on every machine."""
    return hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()


def _by_artist(
    paintings: Iterable[Painting],
) -> tuple[dict[str, list[Painting]], list[Painting]]:
    """The paintings of each artist with at least two, and the others sorted by file."""
    by_artist = collections.defaultdict(list)
    for painting in paintings:
        by_artist[painting.artist].append(painting)
    single = [works[0] for works in by_artist.values() if len(works) == 1]
    several = {artist: works for artist, works in by_artist.items() if len(works) > 1}
    return several, sorted(single, key=lambda painting: painting.file)


def _rows(
    works_by_artist: Mapping[str, list[Painting]],
    split_of: Callable[[Painting], str],
    val_fraction: float,
    seed: int,
) -> list[Row]:
    """The sorted rows, with a part of each artist's training paintings moved to val."""
    rows = []
    for artist, works in works_by_artist.items():
        rows += [Row(split_of(work), work) for work in works if split_of(work) != "train"]
        train = [work for work in works if split_of(work) == "train"]
        train.sort(key=lambda painting: _random_key(seed, artist, painting.file))
        # 100 * 0.29 is 28.999999999999996 and has to count as 29.
        num_val = max(0, min(int(len(train) * val_fraction + 1e-9), len(train) - 2))
        rows += [Row("val", painting) for painting in train[:num_val]]
        rows += [Row("train", painting) for painting in train[num_val:]]
    return sorted(rows, key=lambda r: (SPLITS.index(r.split), r.painting.artist, r.painting.file))
