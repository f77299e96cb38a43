"""Held-out artists, and splits that the source gives; see also test_properties.py."""

import hashlib

import pytest

from painterjax.data import catalog, sources, splits
from painterjax.data.catalog import Painting


def _works(artists, *, paintings=10) -> list[Painting]:
    return [Painting(f"{a}/{i}", a) for a in artists for i in range(paintings)]


def _split_by_file(rows: list[catalog.Row]) -> dict[str, str]:
    return {row.painting.file: row.split for row in rows}


def test_another_seed_gives_another_split():
    works = _works("abcdefghij")
    drawn = [
        splits.by_artist(works, test_fraction=0.2, val_fraction=0.1, seed=seed) for seed in (0, 1)
    ]
    assert drawn[0] != drawn[1]


def test_validation_takes_0_29_of_100_as_29():
    """100 * 0.29 is 28.999999999999996."""
    works = _works("abcde", paintings=100)
    rows, _ = splits.by_artist(works, test_fraction=0.2, val_fraction=0.29, seed=0)
    assert sum(row.split == "val" for row in rows) == 4 * 29


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
        assert {row.painting.artist for row in rows if row.split == "test"} == held_out
        assert len(rows) == 40 * 4
    left = splits.without_holdout(source)
    assert {painting.artist for painting in left.paintings} == {*artists} - held_out
    files = {painting.file for painting in source.paintings if painting.artist in held_out}
    assert dict(left.rejected) == dict.fromkeys(files, splits.HELD_OUT)
    assert f"{len(files)} files by {len(held_out)} held-out artists" in capsys.readouterr().out
