"""The training step, and several steps in one dispatch.

Plain dicts of arrays go in and come out; NNX objects exist only inside.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from painterjax.data import sampling
from painterjax.data.pipeline import PlacedBatch
from painterjax.distributed import sharding
from painterjax.losses.objectives import Objective, Proxies, Scalars
from painterjax.model.augment import Augmentation, Draws, change, draw
from painterjax.model.build import PureDict

Learned = tuple[PureDict, Proxies]  # the network's parameters and the loss's
# The images of a chunk, or their rows where `Constants` has them, and how each is changed.
Chunk = tuple[jax.Array, list[Draws]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What a training step changes.

    Attributes:
      params: the network's parameters that train.
      proxies: what the loss learns beside them; empty with most losses.
      stats: BatchNorm's running statistics; empty where they do not change.
      moments: the optimizer's state.
      step: number of steps taken.
      average: of the parameters over the steps, which is what is judged; empty without one.
    """

    params: PureDict
    proxies: Proxies
    stats: PureDict
    moments: optax.OptState
    step: jax.Array
    average: PureDict = dataclasses.field(default_factory=dict)

    @property
    def judged_params(self) -> PureDict:
        """The parameters that validation and all commands after training take."""
        return self.average or self.params

    def starting_from(self, params: PureDict) -> "TrainState":
        """Returns it with other parameters, and with an average of these alone."""
        average = jax.tree.map(jnp.copy, params) if self.average else {}
        return dataclasses.replace(self, params=params, average=average)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Constants:
    """Arrays that no step changes.

    Attributes:
      fixed: those of the network that do not train, as {params, stats}.
      image_NxSxSxC: all images, where they live on the devices; else each dispatch brings its own.
      key: the run's key; each step folds its number into it.
    """

    fixed: PureDict
    image_NxSxSxC: jax.Array | None
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training step does not change: constants of the compiled program.

    Attributes:
      network: the network without its arrays.
      objective: the loss and what is logged beside it.
      optimizer: turns gradients into updates.
      schedule: the learning rate by step.
      ema_decay: of the parameters' moving average.
      augmentation: how training images are changed; None where the inputs are features.
      branches: how many groups BatchNorm splits a chunk into; None takes its running statistics.
      chunks: how many parts a batch is embedded in, one after the other.
      loops: whether several steps in one dispatch are a loop.
      mesh: the devices that share a batch.
    """

    network: nnx.GraphDef[Any]
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    ema_decay: float
    augmentation: Augmentation | None
    branches: int | None
    chunks: int
    loops: bool
    mesh: Mesh


def train_step(
    state: TrainState, batch: PlacedBatch, constants: Constants, *, recipe: Recipe
) -> tuple[TrainState, Scalars]:
    """Takes one step: augment, embed, loss, gradients, Adam, average.

    Each device of the mesh embeds its share of the images; the loss is over all of them.

    Args:
      state: donated; use the returned one.
      batch: `row`, `artist` (B x T) and, where `constants` has no images, `image`, uint8
        G x M x S x S x 3 by `sampling.by_branch`.
      constants: of the run.
      recipe: static.

    Returns:
      The next state, and the objective's scalars with embedding_spread (root mean squared distance
      from the batch's mean embedding), embedding_norm (root mean squared length), gradient_norm
      and learning_rate.
    """
    chunks = _chunks(batch, constants, state.step, recipe)

    def loss_fn(learned: Learned) -> tuple[jax.Array, tuple[Scalars, PureDict]]:
        params, proxies = learned
        stats, emb_GxMxD = _embed(params, state.stats, chunks, constants, recipe)
        whole = sharding.replicated(recipe.mesh)
        emb_GxMxD = jax.lax.with_sharding_constraint(emb_GxMxD, whole)
        scalars = _scalars(emb_GxMxD, batch, proxies, recipe.objective)
        return scalars["loss"], (scalars, stats)

    learned: Learned = state.params, state.proxies
    grads, (scalars, stats) = jax.grad(loss_fn, has_aux=True)(learned)
    updates, moments = recipe.optimizer.update(grads, state.moments, learned)
    params, proxies = cast(Learned, optax.apply_updates(learned, updates))
    scalars["gradient_norm"] = optax.tree.norm(grads)
    scalars["learning_rate"] = jnp.asarray(recipe.schedule(state.step), jnp.float32)
    average = _average(state, params, decay=recipe.ema_decay) if state.average else {}
    return TrainState(params, proxies, stats, moments, state.step + 1, average), scalars


def _chunks(batch: PlacedBatch, constants: Constants, step: jax.Array, recipe: Recipe) -> Chunk:
    """All chunks of a batch; each image is changed as it would be in a batch of one chunk."""
    row_BxT, images = batch["row"], constants.image_NxSxSxC
    if images is None:
        images = place_GxM = batch["image"]
    else:
        place_GxM = sampling.by_branch(row_BxT, recipe.chunks)
    if recipe.augmentation is None:
        return place_GxM, []
    drawn = draw(
        jax.random.fold_in(constants.key, step),
        row_BxT.size,
        side=images.shape[-2],
        settings=recipe.augmentation,
        views=2 if recipe.objective.view_weight else 1,
    )
    tuple_size = row_BxT.shape[1]
    return place_GxM, jax.tree.map(
        lambda x: sampling.by_branch(sampling.by_tuple(x[None], tuple_size), recipe.chunks), drawn
    )


def _embed(
    params: PureDict, stats: PureDict, chunks: Chunk, constants: Constants, recipe: Recipe
) -> tuple[PureDict, jax.Array]:
    """Embeds a batch chunk by chunk: BatchNorm's statistics behind the last one, and G x M x D.

    Of several chunks the loop keeps the embeddings alone, and embeds each again for its part of
    the gradient: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup, https://arxiv.org/abs/2101.06983
    """

    def embed(stats: PureDict, chunk: Chunk) -> tuple[PureDict, jax.Array]:
        arrays = params, stats, *constants.fixed.values()
        network = nnx.merge(recipe.network, *arrays, copy=True)
        emb_MxD = network(_inputs(chunk, constants, recipe), branches=recipe.branches)
        changed = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        return changed if recipe.branches else stats, emb_MxD

    if recipe.chunks == 1:
        stats, emb_MxD = embed(stats, jax.tree.map(lambda x: x[0], chunks))
        return stats, emb_MxD[None]
    return jax.lax.scan(jax.checkpoint(embed, prevent_cse=False), stats, chunks)


def _inputs(chunk: Chunk, constants: Constants, recipe: Recipe) -> jax.Array:
    """What the network takes of a chunk, each device its share."""
    image_MxSxSxC, drawn = chunk
    if constants.image_NxSxSxC is not None:
        image_MxSxSxC = constants.image_NxSxSxC[image_MxSxSxC]
    shared = sharding.split_along(recipe.mesh, 0)
    image_MxSxSxC = jax.lax.with_sharding_constraint(image_MxSxSxC, shared)
    if recipe.augmentation is None:
        return image_MxSxSxC
    return change(image_MxSxSxC, drawn, recipe.augmentation)


def _scalars(
    emb_GxMxD: jax.Array, batch: PlacedBatch, proxies: Proxies, goal: Objective
) -> Scalars:
    """The objective's scalars, and what tells whether embeddings collapse."""
    row_BxT, artist_BxT, chunks = batch["row"], batch["artist"], len(emb_GxMxD)
    first_GxMxD = emb_GxMxD[:, ::2] if goal.view_weight else emb_GxMxD
    emb_BxTxD = sampling.by_tuple(first_GxMxD, artist_BxT.shape[1])
    emb_NxD = first_GxMxD.reshape(-1, emb_GxMxD.shape[2])
    scalars = goal.scalars(emb_BxTxD, artist_BxT, row_BxT, proxies)
    if goal.view_weight:
        second_NxD = emb_GxMxD[:, 1::2].reshape(emb_NxD.shape)
        row_N = sampling.by_branch(row_BxT, chunks).reshape(-1)
        scalars = goal.with_views(scalars, emb_NxD, second_NxD, row_N)
    scalars["embedding_spread"] = jnp.sqrt(jnp.var(emb_NxD, axis=0).sum())
    scalars["embedding_norm"] = jnp.sqrt(jnp.square(emb_NxD).sum(axis=1).mean())
    return scalars


def _average(state: TrainState, params: PureDict, *, decay: float) -> PureDict:
    """The mean of the parameters behind all steps so far, of which each weighs `decay` of the next.

    What they were before the first step does not count.
    """
    share = (1 - decay) / -jnp.expm1((state.step + 1) * math.log(decay))
    return cast(PureDict, optax.incremental_update(params, state.average, share))


def train_steps(
    state: TrainState,
    batches: PlacedBatch,
    constants: Constants,
    count: int | jax.Array,
    *,
    recipe: Recipe,
) -> tuple[TrainState, Scalars]:
    """Takes the first `count` of L steps in one dispatch: calls `train_step` that many times.

    `batches` has an axis L before those of a batch, and no images where `constants` has them all.
    Steps in one dispatch may be rounded differently from single ones.

    They are a loop, which compiles once and keeps its memory from step to step, or unrolled: in a
    loop XLA runs convolutions 30 times slower on a CPU, https://github.com/jax-ml/jax/issues/12868

    Returns:
      The last state, and each scalar as an array over the L steps; only its first `count` values
      are meaningful.
    """

    def take(state: TrainState, i: int | jax.Array) -> tuple[TrainState, Scalars]:
        batch = {name: array[i] for name, array in batches.items()}
        return train_step(state, batch, constants, recipe=recipe)

    length = len(batches["row"])
    if recipe.loops and length > 1:
        return _loop(take, state, count, length)
    taken = []
    for i in range(length):
        following, scalars = take(state, i)
        taken.append(scalars)
        state = _choose(i < count, following, state) if i else following
    return state, jax.tree.map(lambda *values: jnp.stack(values), *taken)


def _loop(
    take: Callable[[TrainState, int | jax.Array], tuple[TrainState, Scalars]],
    state: TrainState,
    count: int | jax.Array,
    length: int,
) -> tuple[TrainState, Scalars]:
    """Takes `count` steps; returns the last state, and scalars over `length` steps."""

    def body(i: jax.Array, taken: tuple[TrainState, Scalars]) -> tuple[TrainState, Scalars]:
        state, scalars_L = taken
        following, scalars = take(state, i)
        return following, jax.tree.map(lambda x_L, x: x_L.at[i].set(x), scalars_L, scalars)

    _, scalars = jax.eval_shape(take, state, 0)
    scalars_L = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), scalars)
    return jax.lax.fori_loop(0, count, body, (state, scalars_L))


def _choose(condition: bool | jax.Array, yes: TrainState, no: TrainState) -> TrainState:
    return jax.tree.map(lambda *pair: jnp.where(condition, *pair), yes, no)
