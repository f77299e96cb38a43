"""Augmentation on the device: random crops, affine warps, flips and colors; uint8 to [-1, 1]."""

import dataclasses

import jax
import jax.numpy as jnp


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


def augment(image_NxSxSxC: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
    """Crops, warps, flips and recolors uint8 images and normalizes them to float32 in [-1, 1].

    Images are mirrored at their borders, and interpolated bilinearly. Changed colors may leave
    [-1, 1].
    """
    warp_key, flip_key, crop_key, color_key = jax.random.split(key, 4)
    if settings.crop:
        image_NxSxSxC = random_crop(image_NxSxSxC, crop_key, side=settings.crop)
    image_NxSxSxC = normalize(image_NxSxSxC)
    if settings.shift or settings.rotation or settings.scale != (1, 1):
        matrix_Nx2x3 = random_affine(warp_key, len(image_NxSxSxC), settings)
        image_NxSxSxC = jax.vmap(warp)(image_NxSxSxC, matrix_Nx2x3)
    if settings.flips:
        image_NxSxSxC = flip(image_NxSxSxC, flip_key)
    if settings.contrast or settings.brightness or settings.tint:
        image_NxSxSxC = recolor(image_NxSxSxC, color_key, settings)
    return image_NxSxSxC


def augment_twice(image_NxSxSxC: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
    """Augments each image, and once more in space only: 2N x S x S x C, the two side by side.

    So they stay on the device that has the image, and in its branch of BatchNorm.
    """
    first_NxSxSxC = augment(image_NxSxSxC, key, settings)
    second_NxSxSxC = augment(image_NxSxSxC, jax.random.fold_in(key, 1), settings.in_space)
    view_NxVxSxSxC = jnp.stack([first_NxSxSxC, second_NxSxSxC], axis=1)
    return view_NxVxSxSxC.reshape(-1, *first_NxSxSxC.shape[1:])


def random_crop(image_NxSxSxC: jax.Array, key: jax.Array, *, side: int) -> jax.Array:
    """Cuts a square of `side` pixels out of each image, at a random place."""
    count, size, _, channels = image_NxSxSxC.shape
    corner_Nx2 = jax.random.randint(key, (count, 2), 0, size - side + 1)

    def cut(image_SxSxC: jax.Array, corner_2: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image_SxSxC, (*corner_2, 0), (side, side, channels))

    return jax.vmap(cut)(image_NxSxSxC, corner_Nx2)


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


def flip(image_NxSxSxC: jax.Array, key: jax.Array) -> jax.Array:
    """Mirrors each image left-right and up-down, each with probability 1/2."""
    coin_2xNx1x1x1 = jax.random.bernoulli(key, shape=(2, len(image_NxSxSxC), 1, 1, 1))
    image_NxSxSxC = jnp.where(coin_2xNx1x1x1[0], image_NxSxSxC[:, :, ::-1], image_NxSxSxC)
    return jnp.where(coin_2xNx1x1x1[1], image_NxSxSxC[:, ::-1], image_NxSxSxC)


def recolor(image_NxSxSxC: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
    """Changes each image's contrast about its own mean, its brightness and its tint."""
    contrast_key, brightness_key, tint_key = jax.random.split(key, 3)

    def draw(key: jax.Array, most: float, channels: int) -> jax.Array:
        return most * jax.random.uniform(key, (len(image_NxSxSxC), 1, 1, channels), minval=-1)

    mean_Nx1x1x1 = image_NxSxSxC.mean(axis=(1, 2, 3), keepdims=True)
    gain_Nx1x1x1 = 1 + draw(contrast_key, settings.contrast, 1)
    shift_Nx1x1xC = draw(brightness_key, settings.brightness, 1) + draw(tint_key, settings.tint, 3)
    return (image_NxSxSxC - mean_Nx1x1x1) * gain_Nx1x1x1 + mean_Nx1x1x1 + shift_Nx1x1xC


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
