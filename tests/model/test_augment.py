"""Augmentation: warps against PyTorch's grid_sample, and ranges of all random changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.data import synthetic
from painterjax.model import augment
from painterjax.model.augment import Augmentation

REFERENCE = Augmentation(shift=0.2, scale=(1.0, 1.2), rotation=180.0, flips=True)
NOTHING = Augmentation()
EVERYTHING = Augmentation(
    crop=12, shift=0.2, rotation=90.0, flips=True, contrast=0.2, brightness=0.2, tint=0.1
)


def _paintings(count: int, size: int = 48) -> np.ndarray:
    return np.stack(
        [synthetic.paint(seed=0, artist=i, painting=0, size=size) for i in range(count)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_warp_matches_pytorch(seed, torch):
    image_NxSxSxC = augment.normalize(jnp.asarray(_paintings(6)))
    matrix_Nx2x3 = augment.random_affine(jax.random.key(seed), 6, REFERENCE)
    ours = jax.vmap(augment.warp)(image_NxSxSxC, matrix_Nx2x3)
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(np.array(matrix_Nx2x3)), [6, 3, 48, 48], align_corners=False
    )
    theirs = torch.nn.functional.grid_sample(
        torch.from_numpy(np.array(image_NxSxSxC)).permute(0, 3, 1, 2),
        grid,
        padding_mode="reflection",
        align_corners=False,
    )
    # Either places a pixel to 500 / 2^24, along two axes, and neighbors differ by 2 at most.
    np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), rtol=0, atol=4e-4)
    assert np.abs(ours - image_NxSxSxC).mean() > 0.05


def test_affine_maps_fill_their_ranges():
    matrix_Nx2x3 = np.asarray(augment.random_affine(jax.random.key(0), 4000, REFERENCE))
    scale_N = 1 / np.linalg.norm(matrix_Nx2x3[:, 0, :2], axis=1)
    angle_N = np.rad2deg(np.arctan2(matrix_Nx2x3[:, 1, 0], matrix_Nx2x3[:, 0, 0]))
    shift_Nx2 = matrix_Nx2x3[:, :, 2] / 2  # coordinates run from -1 to 1
    for value, low, high in ((scale_N, 1, 1.2), (angle_N, 0, 180), (shift_Nx2, -0.2, 0.2)):
        margin = 0.01 * (high - low)  # 4,000 draws all miss it once in 10^17 times.
        assert low - margin / 100 <= value.min() < low + margin
        assert high - margin < value.max() <= high + margin / 100


def test_pixels_become_minus_one_to_one():
    pixels = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 1, 3)
    found_3 = augment.normalize(pixels).ravel()
    np.testing.assert_allclose(found_3, [-1, -0.6, 1], rtol=0, atol=6 / 2**24)


def test_the_defaults_change_nothing():
    image_NxSxSxC = jnp.asarray(_paintings(2))
    ours = augment.augment(image_NxSxSxC, jax.random.key(0), NOTHING)
    np.testing.assert_array_equal(ours, augment.normalize(image_NxSxSxC))


def test_all_four_flips_are_equally_frequent():
    images = jnp.tile(jnp.asarray(_paintings(1)), (400, 1, 1, 1))
    flipped = augment.augment(images, jax.random.key(0), Augmentation(flips=True))
    image_SxSxC = augment.normalize(images[0])
    mirrored = [image_SxSxC[::v, ::h] for v in (1, -1) for h in (1, -1)]
    seen = [sum(np.array_equal(f, m) for f in np.asarray(flipped)) for m in mirrored]
    assert sum(seen) == 400
    assert min(seen) > 70  # 3.5 standard deviations below 100


def test_second_views_are_changed_in_space_only():
    """With nothing but flips and other brightness, a second view is one of four flips."""
    settings, images = Augmentation(flips=True, brightness=0.5), jnp.asarray(_paintings(12))
    views_MxSxSxC = np.asarray(augment.augment(images, jax.random.key(0), settings, views=2))
    flips_4xNxSxSxC = np.stack(
        [augment.normalize(images)[:, ::row, ::column] for row in (1, -1) for column in (1, -1)]
    )
    for view, is_flip in ((0, False), (1, True)):
        same_4xN = (flips_4xNxSxSxC == views_MxSxSxC[view::2]).all((2, 3, 4))
        assert (same_4xN.any(0) == is_flip).all()
    assert same_4xN.any(1).sum() > 1


def test_augmentation_depends_on_its_key_alone():
    image_NxSxSxC = jnp.asarray(_paintings(2))
    ours = [augment.augment(image_NxSxSxC, jax.random.key(k), REFERENCE) for k in (0, 0, 1)]
    np.testing.assert_array_equal(ours[0], ours[1])
    assert np.abs(ours[0] - ours[2]).mean() > 0.05


def test_images_are_changed_alike_at_once_and_a_few_at_a_time():
    """Also their second views; the two of an image lie side by side."""
    image_NxSxSxC, settings = jnp.asarray(_paintings(4, size=16)), EVERYTHING
    key = jax.random.key(0)
    at_once = augment.augment(image_NxSxSxC, key, settings, views=2)
    drawn = augment.draw(key, 4, side=16, settings=settings, views=2)
    parts = [
        augment.change(image_NxSxSxC[part], jax.tree.map(lambda x, p=part: x[p], drawn), settings)
        for part in (slice(0, 1), slice(1, 4))
    ]
    np.testing.assert_array_equal(jnp.concatenate(parts), at_once)


def test_all_crops_are_equally_frequent():
    image_SxSxC = jnp.asarray(np.arange(9 * 9 * 3, dtype=np.uint8).reshape(9, 9, 3))
    images = jnp.tile(image_SxSxC, (400, 1, 1, 1))
    crop_NxSxSxC = np.asarray(augment.augment(images, jax.random.key(0), Augmentation(crop=7)))
    corners = [(v, h) for v in range(3) for h in range(3)]
    normal_SxSxC = np.asarray(augment.normalize(image_SxSxC))
    squares = [normal_SxSxC[v : v + 7, h : h + 7] for v, h in corners]
    seen = [sum(np.array_equal(crop, square) for crop in crop_NxSxSxC) for square in squares]
    assert sum(seen) == 400
    assert min(seen) > 20  # 3.9 standard deviations below 400 / 9


def test_colors_fill_their_ranges():
    pixels_NxSxSxC = jnp.tile(jnp.asarray(_paintings(1, size=8)), (2000, 1, 1, 1))
    images = augment.normalize(pixels_NxSxSxC)

    def recolored(**settings: Any) -> np.ndarray:
        key = jax.random.key(0)
        return np.asarray(augment.augment(pixels_NxSxSxC, key, Augmentation(**settings)))

    gain_N = recolored(contrast=0.3).std(axis=(1, 2, 3)) / np.asarray(images[0]).std()
    shift_N = (recolored(brightness=0.2) - images).mean(axis=(1, 2, 3))
    tint_NxC = (recolored(tint=0.1) - images).mean(axis=(1, 2))
    for value, low, high in ((gain_N, 0.7, 1.3), (shift_N, -0.2, 0.2), (tint_NxC, -0.1, 0.1)):
        margin = 0.01 * (high - low)  # 2,000 draws all miss it once in 10^8 times.
        assert low - margin / 100 <= value.min() < low + margin
        assert high - margin < value.max() <= high + margin / 100
    assert np.abs(tint_NxC[:, 0] - tint_NxC[:, 1]).mean() > 0.03
    mean_N = recolored(contrast=0.3).mean(axis=(1, 2, 3))
    # Three float32 means of 192 numbers near 1, each right to 200 / 2^24.
    np.testing.assert_allclose(mean_N, np.full(2000, images[0].mean()), rtol=0, atol=4e-5)


def test_scratch_s_augmentation_in_pytorch_has_the_same_ranges(torch):
    """Crops and flips are the same 36; contrast and color change within the same limits."""
    from benchmarks import pytorch_scratch

    image_1xSxSxC = np.random.default_rng(0).integers(0, 256, (1, 10, 10, 3), dtype=np.uint8)
    image_NxSxSxC = np.repeat(image_1xSxSxC, 1000, axis=0)
    drawn = []
    for settings in (
        augment.Augmentation(crop=8, flips=True),
        augment.Augmentation(contrast=0.2, brightness=0.2, tint=0.1),
    ):
        key = jax.random.key(0)
        ours = np.asarray(jax.jit(augment.augment, static_argnums=2)(image_NxSxSxC, key, settings))
        torch.manual_seed(0)
        theirs = pytorch_scratch.augment(torch.from_numpy(image_NxSxSxC), settings)
        drawn.append((ours, theirs.permute(0, 2, 3, 1).numpy()))
    # A pixel is a multiple of 2 / 255, right to some 1 / 2^24.
    ours, theirs = ({x.round(4).tobytes() for x in images} for images in drawn[0])
    assert len(ours) == 36 and ours == theirs
    for ours, theirs in zip(*(map(_changes, drawn[1])), strict=True):
        # Brightness plus tint ends at 0.3; of 1,000 draws none lies within d of it with probability
        # exp(-1000 d^2 / 0.16): at 0.04 once in 20,000. Contrast is nearer to its ends.
        np.testing.assert_allclose(ours, theirs, atol=0.04)


def _changes(image_NxSxSxC: np.ndarray) -> list[float]:
    """Least and greatest deviation, and mean of each channel."""
    deviation_NxC, mean_NxC = image_NxSxSxC.std(axis=(1, 2)), image_NxSxSxC.mean(axis=(1, 2))
    return [float(f(x)) for x in (deviation_NxC, mean_NxC) for f in (np.min, np.max)]
