"""Where in two pictures a network sees their likeness: a heat map over each."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from painterjax.distributed import compilation, sharding
from painterjax.model.augment import normalize
from painterjax.model.build import PureDict
from painterjax.model.embedder import Embedder
from painterjax.model.heads import at_least_float32
from painterjax.model.network import StyleNet

PIXELS = 8  # of the image's side, for one of a map's


def likeness(embedder: Embedder, image_2xSxSxC: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the cosine of two images' embeddings, and how much each place adds to it.

    A place adds what it has more than the image's mean of each channel of each stage that the head
    reads, times the cosine's derivative with respect to it: gradient times activation, place by
    place (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891), of the likeness of two
    embeddings (Stylianou et al. 2019, https://arxiv.org/abs/1901.00536). Class tokens have no
    place.

    Args:
      embedder: the network.
      image_2xSxSxC: uint8.

    Returns:
      The cosine, and float32 maps 2 x S/8 x S/8; above 0 a place makes the images more alike.
    """
    params, stats = sharding.local((embedder.params, embedder.stats))
    cosine, map_2xMxM = _explain(params, stats, image_2xSxSxC, network=embedder.network)
    return float(cosine), np.asarray(map_2xMxM)


def shares(map_2xMxM: np.ndarray) -> np.ndarray:
    """Returns maps as shares of each one's largest value, where places that part images have 0."""
    largest_2x1x1 = map_2xMxM.max((1, 2), keepdims=True)
    return np.clip(map_2xMxM / np.maximum(largest_2x1x1, np.finfo(map_2xMxM.dtype).tiny), 0, 1)


@functools.partial(compilation.jit, static_argnames="network")
def _explain(
    params: PureDict, stats: PureDict, image_2xSxSxC: jax.Array, *, network: nnx.GraphDef[StyleNet]
) -> tuple[jax.Array, jax.Array]:
    merged = nnx.merge(network, params, stats)
    stages = merged.backbone(normalize(image_2xSxSxC), branches=None)

    def cosine(read: list[jax.Array]) -> jax.Array:
        emb_2xD = at_least_float32(merged.head(merged.read(read)))
        first_D, second_D = emb_2xD / jnp.linalg.norm(emb_2xD, axis=1, keepdims=True)
        return first_D @ second_D

    read = [stages[number] for number in merged.stages]
    value, slopes = jax.value_and_grad(cosine)(read)
    side = image_2xSxSxC.shape[1] // PIXELS
    added = [_added(*each, side=side) for each in zip(read, slopes, strict=True)]
    return value, jnp.stack(added).sum(0)


def _added(stage: jax.Array, slope: jax.Array, *, side: int) -> jax.Array:
    """What each place of a stage adds, over as many places as a map has: 2 x M x M."""
    stage, slope = at_least_float32(stage), at_least_float32(slope)
    axes = tuple(range(1, stage.ndim - 1))
    added = ((stage - stage.mean(axes, keepdims=True)) * slope).sum(-1)
    if added.ndim == 2:  # Of tokens, of which those without a place come first.
        grid = math.isqrt(added.shape[1])
        added = added[:, -(grid**2) :].reshape(-1, grid, grid)
    share = math.prod(added.shape[1:]) / side**2
    return share * jax.image.resize(added, (len(added), side, side), "linear")
