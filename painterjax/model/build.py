"""From a config to a network as plain arrays, and back to embeddings."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from painterjax.common.config import Config
from painterjax.common.memory import full_memory_explained
from painterjax.model.augment import normalize
from painterjax.model.backbones import BACKBONES
from painterjax.model.heads import HEADS
from painterjax.model.network import HeadNet, StyleNet

PureDict = dict[str, Any]


@full_memory_explained()
def build_network(
    config: Config, *, image_size: int, pretrained: bool = True
) -> tuple[nnx.GraphDef[StyleNet], PureDict, PureDict]:
    """Returns the network that training starts from: structure, parameters, BatchNorm statistics.

    Args:
      config: the recipe. Random weights depend on `seed` alone.
      image_size: side S of the images.
      pretrained: whether a backbone that has published weights gets them.

    Raises:
      InputError: the published weights are missing, or are others than those known here.
    """
    network = assemble(config, image_size=image_size)
    published = BACKBONES[config.model.backbone].published
    if published and pretrained:
        graphdef, fresh = nnx.split(network.backbone)
        fresh = nnx.to_pure_dict(fresh)
        shapes = {name: array.shape for name, array in arrays_by_name(fresh).items()}
        found = published.read(config.model.weights, shapes)
        loaded = jax.tree.map_with_path(
            lambda path, array: jnp.asarray(found[array_name(path)], array.dtype), fresh
        )
        network.backbone = nnx.merge(graphdef, loaded)
    if config.model.lora_rank:
        network.backbone.add_adapters(config.model.lora_rank, rngs=nnx.Rngs(config.seed))
    # Raises here where the memory is full.
    return jax.block_until_ready(split_network(network))


def assemble(config: Config, *, image_size: int) -> StyleNet:
    """Returns a config's network with random weights."""
    model, head, rngs = config.model, HEADS[config.model.head], nnx.Rngs(config.seed)
    dtype = jnp.dtype(model.dtype)
    backbone = BACKBONES[model.backbone].module(model, dtype=dtype, rngs=rngs)
    stages = model.stages or tuple(range(len(backbone.channels)))
    features = head.features(image_size, [backbone.channels[number] for number in stages])
    mapping = _mapping(config, features, rngs)
    return StyleNet(backbone, stages=stages, head=head, mapping=mapping)


def build_head(
    config: Config, *, features: int
) -> tuple[nnx.GraphDef[HeadNet], PureDict, PureDict]:
    """Returns the network of a config's head alone, with random weights that depend on `seed`."""
    return split_network(HeadNet(_mapping(config, features, nnx.Rngs(config.seed))))


def _mapping(config: Config, features: int, rngs: nnx.Rngs) -> nnx.Module:
    model = config.model
    module = HEADS[model.head].module
    return module(features, model.embedding_dim, dtype=jnp.dtype(model.dtype), rngs=rngs)


def split_network(network: Any) -> tuple[nnx.GraphDef[Any], PureDict, PureDict]:
    """Returns a network as its structure, parameters, and BatchNorm statistics."""
    graphdef, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def arrays_by_name(network: PureDict) -> dict[str, jax.Array]:
    """Returns a network's arrays by names such as params.backbone.blocks.0.convs.0.kernel."""
    return {array_name(path): array for path, array in jax.tree.leaves_with_path(network)}


def array_name(path: jax.tree_util.KeyPath) -> str:
    """Returns the name of an array at a path of a network."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def embed_step(
    params: PureDict, stats: PureDict, image_NxSxSxC: jax.Array, *, network: nnx.GraphDef[StyleNet]
) -> jax.Array:
    """Embeds uint8 images with BatchNorm's running statistics: float32 N x D."""
    return nnx.merge(network, params, stats)(normalize(image_NxSxSxC))


def feature_step(
    params: PureDict, stats: PureDict, image_NxSxSxC: jax.Array, *, network: nnx.GraphDef[StyleNet]
) -> jax.Array:
    """Reads what the head takes from uint8 images: float32 N x F."""
    merged = nnx.merge(network, params, stats)
    return merged.features(normalize(image_NxSxSxC)).astype(jnp.float32)


def head_step(
    params: PureDict, stats: PureDict, feature_NxF: jax.Array, *, network: nnx.GraphDef[HeadNet]
) -> jax.Array:
    """Embeds features: float32 N x D."""
    return nnx.merge(network, params, stats)(feature_NxF)


def arrays_sha256(arrays: PureDict, settings: dict[str, Any]) -> str:
    """Returns the SHA-256 of a network's arrays, and of what else decides what it computes."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, array in arrays_by_name(arrays).items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
