"""The training step, and several steps in one dispatch.

Plain dicts of arrays go in and come out; NNX objects exist only inside.
"""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from painterjax.data import sampling
from painterjax.distributed import sharding
from painterjax.losses.objectives import Objective, Proxies, Scalars
from painterjax.model.augment import Augmentation, augment
from painterjax.model.build import PureDict
from painterjax.model.network import StyleNet

Learned = tuple[PureDict, Proxies]  # the network's parameters and the loss's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a training step changes.

    Attributes:
      params: the network's parameters.
      proxies: what the loss learns beside them; empty with most losses.
      stats: BatchNorm's running statistics.
      moments: the optimizer's state.
      step: number of steps taken.
    """

    params: PureDict
    proxies: Proxies
    stats: PureDict
    moments: optax.OptState
    step: jax.Array


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step does not change: constants of the compiled program.

    Attributes:
      network: the network without its arrays.
      objective: the loss and what is logged beside it.
      optimizer: turns gradients into updates.
      schedule: the learning rate by step.
      augmentation: how training images are changed.
      branches: how many groups BatchNorm splits a batch into; see network.BatchNorm.
      mesh: the devices that share a batch.
      resident: whether all images live on the devices; else each dispatch brings its own.
    """

    network: nnx.GraphDef[StyleNet]
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    augmentation: Augmentation
    branches: int
    mesh: Mesh
    resident: bool


def train_step(
    state: TrainState,
    image_NxSxSxC: jax.Array,
    artist_BxT: jax.Array,
    row_BxT: jax.Array,
    key: jax.Array,
    *,
    recipe: Recipe,
) -> tuple[TrainState, Scalars]:
    """Takes one step: augment, embed, loss, gradients, Adam.

    Each device of the mesh embeds its share of the images; the loss is over all of them.

    Args:
      state: donated; use the returned one.
      image_NxSxSxC: the batch's uint8 images: all anchors, then all positives, ...
      artist_BxT: the artist of each.
      row_BxT: the row of each in the split.
      key: the run's key; each step folds its number into it.
      recipe: static.

    Returns:
      The next state, and the objective's scalars with embedding_spread (root mean squared distance
      from the batch's mean embedding), embedding_norm (root mean squared length), gradient_norm
      and learning_rate.
    """
    key = jax.random.fold_in(key, state.step)
    shared, whole = sharding.split_along(recipe.mesh, 0), sharding.replicated(recipe.mesh)
    image_NxSxSxC = jax.lax.with_sharding_constraint(image_NxSxSxC, shared)
    pixels_NxSxSxC = augment(image_NxSxSxC, key, recipe.augmentation)

    def loss_fn(learned: Learned) -> tuple[jax.Array, tuple[Scalars, PureDict]]:
        params, proxies = learned
        network = nnx.merge(recipe.network, params, state.stats, copy=True)
        emb_NxD = network(pixels_NxSxSxC, branches=recipe.branches)
        emb_NxD = jax.lax.with_sharding_constraint(emb_NxD, whole)
        emb_BxTxD = sampling.by_tuple(emb_NxD, artist_BxT.shape[1])
        scalars = recipe.objective.scalars(emb_BxTxD, artist_BxT, row_BxT, proxies)
        scalars["embedding_spread"] = jnp.sqrt(jnp.var(emb_NxD, axis=0).sum())
        scalars["embedding_norm"] = jnp.sqrt(jnp.square(emb_NxD).sum(axis=1).mean())
        return scalars["loss"], (scalars, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)))

    learned: Learned = state.params, state.proxies
    grads, (scalars, stats) = jax.grad(loss_fn, has_aux=True)(learned)
    updates, moments = recipe.optimizer.update(grads, state.moments, learned)
    params, proxies = cast(Learned, optax.apply_updates(learned, updates))
    scalars["gradient_norm"] = optax.tree.norm(grads)
    scalars["learning_rate"] = jnp.asarray(recipe.schedule(state.step), jnp.float32)
    return TrainState(params, proxies, stats, moments, state.step + 1), scalars


def train_steps(
    state: TrainState,
    row_LxBxT: jax.Array,
    artist_LxBxT: jax.Array,
    image: jax.Array,
    key: jax.Array,
    count: int | jax.Array,
    *,
    recipe: Recipe,
) -> tuple[TrainState, Scalars]:
    """Takes the first `count` of L steps in one dispatch: calls `train_step` that many times.

    `image` holds all images, N x S x S x C, of which each step gathers its rows; or the images of
    each step, L x N x S x S x C. Steps in one dispatch may be rounded differently from single ones.

    The steps are unrolled, not a loop: in a loop XLA runs convolutions 30 times slower on a CPU
    (https://github.com/jax-ml/jax/issues/12868).

    Returns:
      The last state, and each scalar as an array over the L steps; only its first `count` values
      are meaningful.
    """
    taken = []
    for i in range(len(row_LxBxT)):
        row_N = sampling.by_branch(row_LxBxT[i])
        images_NxSxSxC = image[row_N] if recipe.resident else image[i]
        following, scalars = train_step(
            state, images_NxSxSxC, artist_LxBxT[i], row_LxBxT[i], key, recipe=recipe
        )
        taken.append(scalars)
        state = _choose(i < count, following, state) if i else following
    return state, jax.tree.map(lambda *values: jnp.stack(values), *taken)


def _choose(condition: bool | jax.Array, yes: TrainState, no: TrainState) -> TrainState:
    return jax.tree.map(lambda *pair: jnp.where(condition, *pair), yes, no)
