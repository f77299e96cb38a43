"""Duplicates: copies of a picture are found and grouped, different pictures are not."""

import hashlib
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from painterjax.data import duplicates, images, synthetic
from painterjax.data.catalog import Painting
from painterjax.data.duplicates import DecodedFile
from tests.helpers.corpus import saved

SIZE = 64


def _painting(artist: int, number: int = 0, size: int = 2 * SIZE) -> Image.Image:
    pixels = synthetic.paint(seed=0, artist=artist, painting=number, size=size)
    return Image.fromarray(pixels)


def _find(*files: tuple[str, str, bytes], preferred=(), tested=()) -> list[duplicates.Group]:
    """Groups files that are given by artist, name and contents."""
    pictures, squares = [], []
    for place, (artist, name, data) in enumerate(files):
        square = images.decode(data, size=SIZE)
        width, height = Image.open(io.BytesIO(data)).size
        pictures.append(
            DecodedFile(
                Painting(name, artist), place, name in preferred, name in tested,
                hashlib.sha256(data).hexdigest(), width * height, **images.fingerprint(square),
            )
        )  # fmt: skip
        squares.append(square)
    return duplicates.find(pictures, lambda place_K: np.stack(squares)[place_K])


def _names(groups: list[duplicates.Group]) -> list[list[str]]:
    return [[picture.painting.file for picture in group.pictures] for group in groups]


PICTURE = _painting(0)
WHOLE = saved(PICTURE, "PNG")
SMALL = saved(PICTURE.resize((SIZE, SIZE), Image.Resampling.LANCZOS), "PNG")
OTHERS = [("a", f"{i}.png", saved(_painting(*divmod(i, 2)), "PNG")) for i in range(1, 12)]
COPIES = {
    "the same bytes": (WHOLE, "bytes"),
    "another format": (saved(PICTURE, "BMP"), "pixels"),
    "recompressed": (saved(PICTURE, "JPEG", quality=50), "near"),
    "half the size": (SMALL, "near"),
    "brighter": (saved(PICTURE.point(lambda value: 1.2 * value), "PNG"), "near"),
    "without its border": (saved(PICTURE.crop((1, 1, 127, 127)), "PNG"), "near"),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_found_among_others(how):
    data, kind = COPIES[how]
    (group,) = _find(("a", "x.png", WHOLE), ("a", "y", data), *OTHERS)
    first, second = group.pictures
    assert {first.painting.file, second.painting.file} == {"x.png", "y"}
    assert first.kind(second) == kind and group.kept is first


def test_mirrored_and_turned_pictures_are_others():
    turned = [PICTURE.rotate(90), PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    assert not _find(*(("a", str(i), saved(p, "PNG")) for i, p in enumerate([PICTURE, *turned])))


def test_of_flat_pictures_only_equal_ones_are_the_same():
    """Their hashes would be equal, or of noise."""
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.integers(200, 204, (SIZE, SIZE, 3), np.uint8)) for _ in range(3)]
    colors = [Image.new("RGB", (SIZE, SIZE), color) for color in ("navy", "white", "red", "red")]
    files = [("a", str(i), saved(image, "PNG")) for i, image in enumerate([*noisy, *colors])]
    assert _names(_find(*files)) == [["5", "6"]]


def test_pictures_whose_hashes_alone_are_equal_are_others():
    """Gray levels decide the hash; here colors differ, at equal gray levels."""
    gray_HxW = np.asarray(PICTURE.convert("L")).astype(float) / 2
    red_HxWx3 = np.stack([gray_HxW / 0.299, 0 * gray_HxW, 0 * gray_HxW], -1).clip(0, 255)
    green_HxWx3 = np.stack([0 * gray_HxW, red_HxWx3[..., 0] * 0.299 / 0.587, 0 * gray_HxW], -1)
    files = [
        ("a", name, saved(Image.fromarray(pixels.round().astype(np.uint8)), "PNG"))
        for name, pixels in (("red", red_HxWx3), ("green", green_HxWx3))
    ]
    red, green = (images.decode(data, size=SIZE) for *_, data in files)
    bits = [bytes.fromhex(images.fingerprint(image)["phash"]) for image in (red, green)]
    differing = np.bitwise_count(np.bitwise_xor(*(np.frombuffer(b, np.uint8) for b in bits)))
    assert differing.sum() <= duplicates.MAX_DISTANCE
    assert not _find(*files)


def test_candidates_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    hash_NxB = rng.integers(0, 256, (300, 32), np.uint8)
    for row in range(100, 300):  # Near an earlier one, with up to 60 bits flipped anywhere.
        bits = np.unpackbits(hash_NxB[rng.integers(100)])
        bits[rng.choice(256, rng.integers(61), replace=False)] ^= 1
        hash_NxB[row] = np.packbits(bits)
    hash_NxBxB = np.unpackbits(hash_NxB, axis=1).reshape(-1, 16, 16)
    expected, lacking_a_row = set(), 0
    for i, j in itertools.combinations(range(300), 2):
        differs = hash_NxBxB[i] != hash_NxBxB[j]
        if differs.sum() <= duplicates.MAX_DISTANCE:
            shares_row = bool((~differs.any(1)).any())
            lacking_a_row += not shares_row
            expected |= {(i, j)} if shares_row else set()
    found = {(i, int(j)) for i, near in duplicates.candidates(hash_NxB) for j in near}
    assert found == expected
    assert len(expected) > 100 and lacking_a_row > 0


def test_no_two_kept_pictures_are_near():
    """Blends from one picture to another are a chain: each is near the next."""
    one, other = PICTURE, _painting(1)
    chain = [Image.blend(one, other, i / 30) for i in range(31)]
    files = [("a", f"{i:02}", saved(image, "PNG")) for i, image in enumerate(chain)]
    groups = _find(*files)
    grouped = set(itertools.chain.from_iterable(_names(groups)))
    assert len(groups) > 1
    kept = {group.kept.painting.file for group in groups if group.kept}
    alone = {name for _, name, _ in files} - grouped
    assert not _find(*(file for file in files if file[1] in kept | alone))
    for group in groups:  # All are near the first, not near one that is near it.
        first, *rest = (files[int(name)] for name in _names([group])[0])
        for file in rest:
            assert len(_find(first, file)) == 1


@pytest.mark.parametrize(
    ("artists", "preferred", "kept"),
    [
        ("aaa", "", "2"),  # The largest, and of two the first by name.
        ("aaa", "1", "1"),
        ("aba", "", None),
        ("aba", "1", "1"),
        ("aba", "3", "3"),
        ("aba", "12", None),  # The table contradicts itself.
        ("aba", "13", "3"),
    ],
)
def test_of_one_artist_the_largest_is_kept_and_of_several_what_the_table_says(
    artists, preferred, kept
):
    contents = zip("123", artists, (SMALL, WHOLE, WHOLE), strict=True)
    (group,) = _find(*((a, name, data) for name, a, data in contents), preferred=preferred)
    assert (group.kept.painting.file if group.kept else None) == kept
    reasons = dict(duplicates.rejections([group]))
    assert sorted([*reasons, *([kept] if kept else [])]) == ["1", "2", "3"]
    if artists == "aba" and not preferred:
        assert reasons == {
            "1": "nearly the same picture as 2 by another artist",
            "2": "the same bytes as 3 by another artist",
            "3": "the same bytes as 2 by another artist",
        }
    header, *rows = duplicates.table([group])
    assert header == ("group", "file", "artist", "kind", "kept")
    assert {row[1] for row in rows if row[4] == "yes"} == ({kept} if kept else set())
    assert [bool(row[3]) for row in rows] == [row[1] in reasons for row in rows]


def test_of_copies_in_training_and_test_training_loses_its_own():
    files = [("a", "large", WHOLE), ("a", "small", SMALL)]
    assert _names(_find(*files)) == [["large", "small"]]
    assert _names(_find(*files, tested=("small",))) == [["small", "large"]]
