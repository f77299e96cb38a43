"""Augmentation on the device: a random affine warp and flips, and uint8 pixels to [-1, 1]."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training images are changed; every image draws its own values uniformly.

    Attributes:
      shift: largest shift along each axis, as a fraction of the side.
      scale: range of the enlargement; 1 keeps the size.
      rotation: largest rotation in degrees; drawn from [0, rotation].
      flips: whether to mirror left-right and up-down, each with probability 1/2.
    """

    shift: float
    scale: tuple[float, float]
    rotation: float
    flips: bool


def normalize(image_NxSxSxC: jax.Array) -> jax.Array:
    """Maps uint8 pixels to float32 in [-1, 1]: x / 127.5 - 1."""
    return image_NxSxSxC.astype(jnp.float32) / 127.5 - 1


def augment(image_NxSxSxC: jax.Array, key: jax.Array, settings: Augmentation) -> jax.Array:
    """Warps and flips uint8 images and normalizes them to float32 in [-1, 1].

    Pixels from beyond the border mirror those within; values between pixels are bilinear.
    """
    warp_key, flip_key = jax.random.split(key)
    image_NxSxSxC = normalize(image_NxSxSxC)
    if settings.shift or settings.rotation or settings.scale != (1, 1):
        matrix_Nx2x3 = random_affine(warp_key, len(image_NxSxSxC), settings)
        image_NxSxSxC = jax.vmap(warp)(image_NxSxSxC, matrix_Nx2x3)
    return flip(image_NxSxSxC, flip_key) if settings.flips else image_NxSxSxC


def random_affine(key: jax.Array, count: int, settings: Augmentation) -> jax.Array:
    """Draws `count` maps from a result's pixel to the image's, in coordinates from -1 to 1.

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


def warp(image_SxSxC: jax.Array, matrix_2x3: jax.Array) -> jax.Array:
    """Samples an image where an affine map sends each pixel's center; borders mirror.

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
