"""From a config to a network as plain arrays, and back to embeddings."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from painterjax.common.config import Config
from painterjax.common.memory import full_memory_explained
from painterjax.model.augment import normalize
from painterjax.model.network import StyleNet

PureDict = dict[str, Any]


@full_memory_explained()
def build_network(
    config: Config, *, image_size: int
) -> tuple[nnx.GraphDef[StyleNet], PureDict, PureDict]:
    """Returns a config's untrained network as its structure, parameters and BatchNorm statistics.

    The weights depend on `seed` alone.
    """

    network = StyleNet(
        image_size=image_size,
        widths=config.model.widths,
        depths=config.model.depths,
        head=config.model.head,
        embedding_dim=config.model.embedding_dim,
        dtype=jnp.dtype(config.model.dtype),
        rngs=nnx.Rngs(config.seed),
    )
    # Raises here where the memory is full.
    return jax.block_until_ready(split_network(network))


def split_network(network: StyleNet) -> tuple[nnx.GraphDef[StyleNet], PureDict, PureDict]:
    """Returns a network as its structure, parameters, and BatchNorm statistics."""
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def arrays_by_name(network: PureDict) -> dict[str, jax.Array]:
    """Returns a network's arrays by names such as params.blocks.0.convs.0.kernel."""
    return {array_name(path): array for path, array in jax.tree.leaves_with_path(network)}


def array_name(path: jax.tree_util.KeyPath) -> str:
    """Returns the name of an array at a path of a network."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def embed_step(
    params: PureDict, stats: PureDict, image_NxSxSxC: jax.Array, *, network: nnx.GraphDef[StyleNet]
) -> jax.Array:
    """Embeds uint8 images with BatchNorm's running statistics: float32 N x D."""
    return nnx.merge(network, params, stats)(normalize(image_NxSxSxC))
