"""Augmentation on the device: random crops, affine warps, flips and colors; uint8 to [-1, 1]."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Draws = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of random changes to training images; each image draws its own values uniformly.

    The defaults change nothing.

    Attributes:
      crop: side in pixels of a random square to cut out; 0 takes the whole image.
      shift: largest shift along each axis, as a fraction of the side.
      scale: range of the enlargement; 1 keeps the size.
      rotation: largest rotation in degrees; drawn from [0, rotation].
      flips: whether to mirror left-right and up-down, each with probability 1/2.
      contrast: largest change of the contrast, as a share of it.
      brightness: largest change of all pixels, where black is -1 and white is 1.
      tint: largest change of each color channel, likewise.
    """

    crop: int = 0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    flips: bool = False
    contrast: float = 0.0
    brightness: float = 0.0
    tint: float = 0.0

    @property
    def in_space(self) -> "Augmentation":
        """The same without changes of colors."""
        return dataclasses.replace(self, contrast=0.0, brightness=0.0, tint=0.0)


def normalize(image_NxSxSxC: jax.Array) -> jax.Array:
    """Maps uint8 pixels to float32 in [-1, 1]: x / 127.5 - 1."""
    return image_NxSxSxC.astype(jnp.float32) / 127.5 - 1


def augment(
    image_NxSxSxC: jax.Array, key: jax.Array, settings: Augmentation, *, views: int = 1
) -> jax.Array:
    """Draws a change of each image and makes it: float32 V N x S x S x C in [-1, 1]."""
    count, side = image_NxSxSxC.shape[:2]
    drawn = draw(key, count, side=side, settings=settings, views=views)
    return change(image_NxSxSxC, drawn, settings)


def draw(
    key: jax.Array, count: int, *, side: int, settings: Augmentation, views: int = 1
) -> list[Draws]:
    """Draws how each of `count` images of a side is changed: for each view arrays of as many rows.

    So images that are changed a few at a time are those that are changed at once. The second of
    two views is changed in space only.
    """
    first = _draw(key, count, side, settings)
    seconds = [_draw(jax.random.fold_in(key, 1), count, side, settings.in_space)]
    return [first, *seconds[: views - 1]]


def change(image_NxSxSxC: jax.Array, drawn: Sequence[Draws], settings: Augmentation) -> jax.Array:
    """Crops, warps, flips and recolors uint8 images and normalizes them to float32 in [-1, 1].

    Images are mirrored at their borders, and interpolated bilinearly. Changed colors may leave
    [-1, 1]. The views of an image lie side by side, V N x S x S x C: so they stay on the device
    that has the image, and in its branch of BatchNorm.
    """
    views = [_changed(image_NxSxSxC, each, settings.crop) for each in drawn]
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def _draw(key: jax.Array, count: int, side: int, settings: Augmentation) -> Draws:
    warp_key, flip_key, crop_key, color_key = jax.random.split(key, 4)
    drawn = {}
    if settings.crop:
        corners = side - settings.crop + 1
        drawn["corner"] = jax.random.randint(crop_key, (count, 2), 0, corners)
    if settings.shift or settings.rotation or settings.scale != (1, 1):
        drawn["matrix"] = random_affine(warp_key, count, settings)
    if settings.flips:
        drawn["flips"] = jax.random.bernoulli(flip_key, shape=(2, count)).T
    if settings.contrast or settings.brightness or settings.tint:
        drawn |= _draw_colors(color_key, count, settings)
    return drawn


def _draw_colors(key: jax.Array, count: int, settings: Augmentation) -> Draws:
    contrast_key, brightness_key, tint_key = jax.random.split(key, 3)

    def uniform(key: jax.Array, most: float, channels: int) -> jax.Array:
        return most * jax.random.uniform(key, (count, channels), minval=-1)

    brightness_Nx1 = uniform(brightness_key, settings.brightness, 1)
    return {
        "gain": 1 + uniform(contrast_key, settings.contrast, 1),
        "color": brightness_Nx1 + uniform(tint_key, settings.tint, 3),
    }


def _changed(image_NxSxSxC: jax.Array, drawn: Draws, crop: int) -> jax.Array:
    if "corner" in drawn:
        cut = jax.vmap(lambda image, corner: _cut(image, corner, crop))
        image_NxSxSxC = cut(image_NxSxSxC, drawn["corner"])
    image_NxSxSxC = normalize(image_NxSxSxC)
    if "matrix" in drawn:
        image_NxSxSxC = jax.vmap(warp)(image_NxSxSxC, drawn["matrix"])
    if "flips" in drawn:
        image_NxSxSxC = _flip(image_NxSxSxC, drawn["flips"])
    if "gain" in drawn:
        image_NxSxSxC = _recolor(image_NxSxSxC, drawn["gain"], drawn["color"])
    return image_NxSxSxC


def _cut(image_SxSxC: jax.Array, corner_2: jax.Array, side: int) -> jax.Array:
    shape = (side, side, image_SxSxC.shape[2])
    return jax.lax.dynamic_slice(image_SxSxC, (*corner_2, 0), shape)


def random_affine(key: jax.Array, count: int, settings: Augmentation) -> jax.Array:
    """Draws `count` affine maps from result to image, in coordinates from -1 to 1.

    Returns float32 (count, 2, 3): columns for x, y and 1, rows for x and y.
    """
    shift_key, scale_key, angle_key = jax.random.split(key, 3)
    shift_Nx2 = 2 * settings.shift * jax.random.uniform(shift_key, (count, 2), minval=-1)
    low, high = settings.scale
    scale_N = jax.random.uniform(scale_key, (count,), minval=low, maxval=high)
    angle_N = jnp.deg2rad(settings.rotation) * jax.random.uniform(angle_key, (count,))
    cos_N, sin_N = jnp.cos(angle_N) / scale_N, jnp.sin(angle_N) / scale_N
    rotation_Nx2x2 = jnp.stack([cos_N, -sin_N, sin_N, cos_N], axis=1).reshape(count, 2, 2)
    return jnp.concatenate([rotation_Nx2x2, shift_Nx2[:, :, None]], axis=2)


def _flip(image_NxSxSxC: jax.Array, flips_Nx2: jax.Array) -> jax.Array:
    """Mirrors left-right and up-down."""
    sideways, upside = (flips_Nx2[:, i, None, None, None] for i in range(2))
    image_NxSxSxC = jnp.where(sideways, image_NxSxSxC[:, :, ::-1], image_NxSxSxC)
    return jnp.where(upside, image_NxSxSxC[:, ::-1], image_NxSxSxC)


def _recolor(image_NxSxSxC: jax.Array, gain_Nx1: jax.Array, color_NxC: jax.Array) -> jax.Array:
    """Multiplies each image's contrast about its own mean, and adds a color."""
    mean_Nx1x1x1 = image_NxSxSxC.mean(axis=(1, 2, 3), keepdims=True)
    changed_NxSxSxC = (image_NxSxSxC - mean_Nx1x1x1) * gain_Nx1[:, None, None] + mean_Nx1x1x1
    return changed_NxSxSxC + color_NxC[:, None, None]


def warp(image_SxSxC: jax.Array, matrix_2x3: jax.Array) -> jax.Array:
    """Warps an image: each result pixel is sampled where the map sends its center.

    The same as torch.nn.functional.grid_sample with padding_mode="reflection" and
    align_corners=False.
    """
    side = image_SxSxC.shape[0]
    center_S = (2 * jnp.arange(side) + 1) / side - 1
    x_SxS, y_SxS = jnp.meshgrid(center_S, center_S)
    grid_3xSxS = jnp.stack([x_SxS, y_SxS, jnp.ones_like(x_SxS)])
    source_2xSxS = jnp.einsum("ij,jhw->ihw", matrix_2x3, grid_3xSxS, precision="highest")
    column_SxS, row_SxS = ((source_2xSxS + 1) * side - 1) / 2
    return _bilinear(image_SxSxC, _reflect(row_SxS, side), _reflect(column_SxS, side))


def _reflect(place_SxS: jax.Array, side: int) -> jax.Array:
    """Folds pixel coordinates back into [0, side - 1], mirrored at the outer pixels' edges."""
    turn_SxS = jnp.mod(place_SxS + 0.5, 2 * side)
    return jnp.clip(jnp.minimum(turn_SxS, 2 * side - turn_SxS) - 0.5, 0, side - 1)


def _bilinear(image_SxSxC: jax.Array, row_SxS: jax.Array, column_SxS: jax.Array) -> jax.Array:
    last = image_SxSxC.shape[0] - 1
    top_SxS = jnp.floor(row_SxS).astype(jnp.int32)
    left_SxS = jnp.floor(column_SxS).astype(jnp.int32)
    down_SxSx1 = (row_SxS - top_SxS)[..., None]
    right_SxSx1 = (column_SxS - left_SxS)[..., None]

    def mix_along_row(row):
        left = image_SxSxC[row, left_SxS]
        right = image_SxSxC[row, jnp.minimum(left_SxS + 1, last)]
        return left + right_SxSx1 * (right - left)

    upper, lower = mix_along_row(top_SxS), mix_along_row(jnp.minimum(top_SxS + 1, last))
    return upper + down_SxSx1 * (lower - upper)
