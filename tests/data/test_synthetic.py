"""The procedural painters: repeatable, size-independent, and not told apart by color alone."""

import itertools
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from painterjax.data import synthetic

ARTISTS, PAINTINGS = 24, 8


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Paintings in the order of their artists."""
    indices = np.ndindex(ARTISTS, PAINTINGS)
    return np.stack([synthetic.paint(seed=0, artist=a, painting=p, size=64) for a, p in indices])


def _distances(features_NxD: np.ndarray) -> np.ndarray:
    """The distances of all pairs of paintings, in units of their spread."""
    first_P, second_P = np.triu_indices(len(features_NxD), 1)
    distance_P = np.linalg.norm(features_NxD[first_P] - features_NxD[second_P], axis=1)
    return distance_P / distance_P.std()


def _auc(distance_P: np.ndarray) -> float:
    """How well small distances tell pairs by one artist from pairs by two."""
    artist_2xP = np.stack(np.triu_indices(ARTISTS * PAINTINGS, 1)) // PAINTINGS
    return float(roc_auc_score(artist_2xP[0] == artist_2xP[1], -distance_P))


def _histogram(image_SxSxC: np.ndarray) -> np.ndarray:
    """The square root of an 8 x 8 x 8 histogram: Euclidean distance is then Hellinger's."""
    bins_N = (image_SxSxC.reshape(-1, 3) // 32) @ (64, 8, 1)
    return np.sqrt(np.bincount(bins_N, minlength=512) / len(bins_N))


def _texture(image_SxSxC: np.ndarray) -> np.ndarray:
    """Shares of gradient directions, and the logarithm of the energy in rings of frequency."""
    gray_SxS = image_SxSxC.mean(axis=2)
    slope_y, slope_x = np.gradient(gray_SxS)
    direction, strength = np.arctan2(slope_y, slope_x) % np.pi, np.hypot(slope_y, slope_x)
    share_8, _ = np.histogram(direction, 8, (0, np.pi), weights=strength)
    energy_SxS = np.abs(np.fft.fft2(gray_SxS)) ** 2
    cycles_S = np.fft.fftfreq(len(gray_SxS), 1 / len(gray_SxS))
    radius_SxS, edges = np.hypot(cycles_S, cycles_S[:, None]), (2, 4, 8, 14, 20, 26, 33)
    rings = [(radius_SxS >= a) & (radius_SxS < b) for a, b in itertools.pairwise(edges)]
    energies = [np.log(energy_SxS[ring].mean()) for ring in rings]
    return np.concatenate([share_8 / share_8.sum(), energies])


def test_a_painting_is_uint8_and_square():
    image_SxSxC = synthetic.paint(seed=1, artist=2, painting=3, size=48)
    assert image_SxSxC.shape == (48, 48, 3)
    assert image_SxSxC.dtype == np.uint8
    assert image_SxSxC.std() > 10


def test_another_process_paints_the_same():
    code = (
        "import zlib; from painterjax.data.synthetic import paint;"
        "print(zlib.crc32(paint(seed=5, artist=6, painting=7, size=64).tobytes()))"
    )
    synthetic.paint(seed=5, artist=0, painting=0, size=64)  # whatever was painted before
    here = synthetic.paint(seed=5, artist=6, painting=7, size=64)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(there.stdout) == zlib.crc32(here.tobytes())


def test_seeds_artists_and_paintings_differ(images):
    assert len(np.unique(images, axis=0)) == ARTISTS * PAINTINGS
    other_seed = synthetic.paint(seed=1, artist=0, painting=0, size=64)
    assert np.abs(images[0].astype(int) - other_seed).mean() > 5


@pytest.mark.parametrize("artist", range(8))
def test_all_sizes_show_the_same_picture(artist):
    images = [synthetic.paint(seed=0, artist=artist, painting=p, size=256) for p in (0, 1)]
    boxes = [Image.fromarray(i).resize((64, 64), Image.Resampling.BOX) for i in images]
    small = synthetic.paint(seed=0, artist=artist, painting=0, size=64).astype(int)
    same, different = (np.abs(small - np.asarray(box)).mean() for box in boxes)
    # LANCZOS keeps the strokes' edges sharper than BOX: a few levels of 255.
    assert same < 5
    assert different > 2 * same


def test_color_does_not_name_the_painter_and_texture_adds_to_it(images):
    mean_P = _distances(images.mean(axis=(1, 2)))
    histogram_P = _distances(np.stack([_histogram(image) for image in images]))
    texture_NxD = np.stack([_texture(image) for image in images])
    texture_P = _distances((texture_NxD - texture_NxD.mean(axis=0)) / texture_NxD.std(axis=0))
    assert 0.55 < _auc(mean_P) < 0.68
    assert 0.60 < _auc(histogram_P) < 0.72
    assert _auc(texture_P) > 0.62
    assert _auc(histogram_P + texture_P) > _auc(histogram_P) + 0.02


def test_contact_sheet_has_a_row_per_painter():
    sheet = synthetic.contact_sheet(seed=0, artists=2, paintings=3, size=32, gap=5)
    assert sheet.size == (3 * 37 + 5, 2 * 37 + 5)
    sheet_HxWxC = np.asarray(sheet)
    last_SxSxC = synthetic.paint(seed=0, artist=1, painting=2, size=32)
    np.testing.assert_array_equal(sheet_HxWxC[42:74, 79:111], last_SxSxC)
    assert sheet_HxWxC[:5].min() == 255
