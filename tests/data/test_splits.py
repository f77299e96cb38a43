"""Held-out artists, and splits that the source gives; see also test_properties.py."""

import collections
import hashlib

import numpy as np
import pyarrow as pa
import pytest

from painterjax.data import sources, splits
from painterjax.data.catalog import SPLITS, Painting
from painterjax.data.columns import Paintings


def _works(artists, *, paintings=10) -> Paintings:
    return Paintings.of(Painting(f"{a}/{i}", a) for a in artists for i in range(paintings))


def _as_loops(works, *, seed, val_fraction, test_fraction=None, given=None):
    """The same split of Python objects, one after the other: (split, painting) and the single."""

    def key(*names):
        return hashlib.sha256("\x00".join((str(seed), *names)).encode()).digest()

    by_artist = collections.defaultdict(list)
    for work in works:
        by_artist[work.artist].append(work)
    single = sorted((w[0] for w in by_artist.values() if len(w) == 1), key=lambda work: work.file)
    several = sorted((a for a, w in by_artist.items() if len(w) > 1), key=key)
    test = set(several[: int(len(several) * (test_fraction or 0) + 0.5)])
    rows = []
    for artist in several:
        split = {
            w: given[w.file] if given else "test" * (artist in test) for w in by_artist[artist]
        }
        rows += [
            (split[work], work) for work in by_artist[artist] if split[work] in ("val", "test")
        ]
        train = [work for work in by_artist[artist] if split[work] in ("", "train")]
        train.sort(key=lambda work: key(work.artist, work.file))
        count = max(0, min(int(len(train) * val_fraction + 1e-9), len(train) - 2))
        rows += [("val", work) for work in train[:count]] + [("train", w) for w in train[count:]]
    return sorted(rows, key=lambda r: (SPLITS.index(r[0]), r[1].artist, r[1].file)), single


def _as_pairs(rows: pa.Table) -> list[tuple[str, Painting]]:
    return list(zip(rows["split"].to_pylist(), Paintings(rows), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_columns_are_split_as_a_loop_over_paintings_does(seed):
    """Artists with 1 to 40 paintings and names of any letters, in any order, some files twice."""
    rng = np.random.default_rng(seed)
    artists = ["", "\U0001f3a8", "\uffee", "\u00e9", "e\u0301", *map(str, range(60))]
    works = [
        Painting(f"{rng.integers(1000)}\u00e9.jpg", artist, title=f"{rng.integers(2)}")
        for artist in artists
        for _ in range(rng.integers(1, 40))
    ]
    works = [works[i] for i in rng.permutation(len(works))]
    asked = {"seed": seed, "val_fraction": float(rng.choice([0, 0.1, 0.29, 0.7]))}
    for test_fraction in (0.0, 0.2, 0.99):
        asked["test_fraction"] = test_fraction
        rows, single = splits.by_artist(Paintings.of(works), **asked)
        expected, left = _as_loops(works, **asked)
        assert _as_pairs(rows) == expected and list(single) == left
    del asked["test_fraction"]
    given = {work.file: str(rng.choice(SPLITS)) for work in works}
    table = Paintings.of(works).table
    column = pa.array([given[work.file] for work in works]).dictionary_encode()
    rows, single = splits.as_given(Paintings(table.append_column("split", column)), **asked)
    expected, left = _as_loops(works, given=given, **asked)
    assert _as_pairs(rows) == expected and list(single) == left


def test_another_seed_gives_another_split():
    works = _works("abcdefghij")
    drawn = [
        splits.by_artist(works, test_fraction=0.2, val_fraction=0.1, seed=seed) for seed in (0, 1)
    ]
    assert _as_pairs(drawn[0][0]) != _as_pairs(drawn[1][0])


def test_validation_takes_0_29_of_100_as_29():
    """100 * 0.29 is 28.999999999999996."""
    works = _works("abcde", paintings=100)
    rows, _ = splits.by_artist(works, test_fraction=0.2, val_fraction=0.29, seed=0)
    assert rows["split"].to_pylist().count("val") == 4 * 29


def test_a_fifth_of_all_names_is_held_out():
    """Of 10,000 independent ones a share within five standard errors of 0.2."""
    held_out = [name for name in map(str, range(10_000)) if splits.is_held_out(name)]
    assert abs(len(held_out) / 10_000 - 0.2) < 5 * (0.2 * 0.8 / 10_000) ** 0.5


def test_the_held_out_artists_never_change():
    """Else figures of two versions are on different artists: no version may change this hash."""
    held_out = "".join(str(int(splits.is_held_out(f"painter-{i:03}"))) for i in range(200))
    assert hashlib.sha256(held_out.encode()).hexdigest()[:16] == "2e94fec8d392f567"


@pytest.mark.parametrize(
    "spelling",
    [
        "E\u0301douard Manet",
        "\u00c9DOUARD  manet ",
        "edouard-manet",
        "Edouard_Manet",
        "\u00e9douard manet.",
    ],
)
def test_a_name_is_held_out_in_every_spelling(spelling, monkeypatch):
    """Under each of 50 texts to hash it with, as different names would not: 0.68 ** 50 is 4e-9."""
    for text in map(str, range(50)):
        monkeypatch.setattr(splits, "HOLDOUT", text)
        assert splits.is_held_out(spelling) == splits.is_held_out("\u00c9douard Manet")


def test_holdout_tests_on_the_held_out_artists_and_without_holdout_lacks_them(capsys):
    artists = [f"painter-{i:03}" for i in range(40)]
    held_out = {artist for artist in artists if splits.is_held_out(artist)}
    assert 0 < len(held_out) < 40
    source = sources.synthetic_painters(40, 4, seed=0)
    for seed in (0, 1):
        rows, _ = splits.by_artist(
            source.paintings, test_fraction=None, val_fraction=0.25, seed=seed
        )
        assert {work.artist for split, work in _as_pairs(rows) if split == "test"} == held_out
        assert len(rows) == 40 * 4
    left = splits.without_holdout(source)
    assert {painting.artist for painting in left.paintings} == {*artists} - held_out
    files = {painting.file for painting in source.paintings if painting.artist in held_out}
    assert dict(left.rejected) == dict.fromkeys(files, splits.HELD_OUT)
    assert f"{len(files)} files by {len(held_out)} held-out artists" in capsys.readouterr().out
