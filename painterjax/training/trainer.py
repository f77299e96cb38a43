"""From a config and a store to everything that a run needs."""

import dataclasses
import functools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.common.memory import full_memory_explained
from painterjax.data import pipeline, sampling
from painterjax.data.store import Split
from painterjax.distributed import compilation, processes, sharding
from painterjax.losses import objectives
from painterjax.losses.objectives import Proxies, Scalars
from painterjax.model import trainable
from painterjax.model.augment import Augmentation
from painterjax.model.backbones import BACKBONES
from painterjax.model.build import PureDict, build_head, build_network
from painterjax.training.optimizer import adam, cosine_decay, piecewise_decay, warmed_up
from painterjax.training.step import Constants, Recipe, TrainState, train_steps


@dataclasses.dataclass(frozen=True)
class Training:
    """What the training loop takes.

    Attributes:
      mesh: the devices that share a batch.
      step: train_steps, jitted, or compiled.
      state: what training starts from.
      constants: what it does not change, on every device.
      source: draws the batches.
      batches: what each dispatch takes, to the run's end.
      plan: which steps those are.
      images_per_step: how many images a batch has.
      loops: whether the steps of a dispatch are a loop.
      fitted: what a head that was fitted in closed form reached; empty where none was.
    """

    mesh: Mesh
    step: Any
    state: TrainState
    constants: Constants
    source: pipeline.BatchSource
    batches: grain.DatasetIterator[pipeline.PlacedBatch]
    plan: pipeline.DispatchPlan
    images_per_step: int
    loops: bool
    fitted: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def run(
        self, state: TrainState, batch: pipeline.PlacedBatch, count: int
    ) -> tuple[TrainState, Scalars]:
        """Takes `count` steps: the last state and the scalars of each; `state` is donated."""
        return self.step(*self.arguments(state, batch, count))

    def arguments(self, state: TrainState, batch: Mapping[str, Any], count: int) -> tuple[Any, ...]:
        """Returns what `step` takes."""
        # A plain int would take a third of a millisecond to hand over.
        return state, batch, self.constants, np.int32(count)

    def drive(self, state: TrainState) -> Iterator[tuple[range, TrainState, Scalars, float]]:
        """Trains from the plan's start to the run's end, a dispatch at a time.

        Yields, as soon as the device has its orders: the steps taken, the state behind them, the
        scalars of each, and for how many seconds there was no batch.
        """
        for dispatch in self.plan.dispatches:
            steps = self.plan.steps(dispatch)
            asked_s = time.perf_counter()
            batch = next(self.batches)
            wait_s = time.perf_counter() - asked_s
            state, scalars = self.run(state, batch, len(steps))
            yield steps, state, scalars, wait_s


def objective(config: Config, name: str, mesh: Mesh | None = None) -> objectives.Objective:
    """Returns the objective called `name` with the other settings of a config's loss."""
    goal = objectives.build(
        name=name,
        margin=config.loss.margin,
        distance=config.loss.distance,
        scale=config.loss.scale,
        paintings_per_artist=config.loss.paintings_per_artist,
        sampler=config.loss.sampler,
        mesh=mesh,
    )
    views = {"view_weight": config.loss.view_weight, "scale": config.loss.scale, "mesh": mesh}
    return dataclasses.replace(goal, **views)


@full_memory_explained()
def build(config: Config, split: Split, *, start: int = 0) -> Training:
    """Builds what trains a config on a split; nothing has run yet but the initialization.

    All processes call it together.

    Args:
      config: the recipe.
      split: the training paintings.
      start: the steps that an earlier start has taken.
    """
    # By the writer's memory, as all run one program.
    resident = bool(processes.of_writer(pipeline.keep_on_device(config.data.residency, split)))
    mesh = sharding.of_all_devices()
    goal = objective(config, config.loss.name, mesh)
    batch_size = _batch_size(config, goal, split, devices=mesh.size)
    chunks = max(1, batch_size // (config.chunk_size or batch_size))
    plan = _plan(config, goal.steps_per_epoch(len(split), batch_size), start)
    learning_rate = schedule(config, plan)
    network, arrays = _network(config, split)
    trained, fixed = trainable.divide(config, arrays)
    proxies = initial_proxies(config, num_artists=len(split.artists)) if goal.has_proxies else {}
    optimizer = _optimizer(config, learning_rate, trained["params"], proxies)
    branches = goal.tuple_size if config.model.batch_norm == "branch" else 1
    recipe = Recipe(
        network=network,
        objective=goal,
        optimizer=optimizer,
        schedule=learning_rate,
        ema_decay=config.optimizer.ema_decay,
        augmentation=None if split.feature_NxF is not None else Augmentation(**config.augmentation),
        branches=branches if trained["stats"] else None,
        chunks=chunks,
        loops=split.feature_NxF is not None or BACKBONES[config.model.backbone].loops,
        mesh=mesh,
    )
    source = pipeline.BatchSource(
        split, goal.sample, batch_size, config.seed, resident, chunks, plan, mesh
    )
    return Training(
        mesh=mesh,
        step=_jitted_step(recipe),
        state=on_all_devices(mesh, _first_state(recipe, trained, proxies)),
        constants=_constants(config, fixed, split if resident else None, mesh),
        source=source,
        batches=pipeline.batches(source),
        plan=plan,
        images_per_step=batch_size * goal.tuple_size,
        loops=recipe.loops,
    )


def _first_state(recipe: Recipe, trained: PureDict, proxies: Proxies) -> TrainState:
    """The state before the first step."""
    moments = recipe.optimizer.init((trained["params"], proxies))
    average = trained["params"] if recipe.ema_decay else {}
    step = jnp.zeros((), jnp.int32)
    return TrainState(**trained, proxies=proxies, moments=moments, step=step, average=average)


def _constants(config: Config, fixed: PureDict, resident: Split | None, mesh: Mesh) -> Constants:
    """What no step changes, on every device; with the images of a split that is resident."""
    key = sharding.replicate(mesh, jax.random.key_data(jax.random.key(config.seed)))
    images = None if resident is None else sharding.replicate(mesh, np.asarray(resident.inputs))
    return Constants(on_all_devices(mesh, fixed), images, jax.random.wrap_key_data(key))


def _network(config: Config, split: Split) -> tuple[Any, PureDict]:
    """The network that takes a split's inputs, as its structure and its arrays."""
    if split.feature_NxF is not None:
        network, params, stats = build_head(config, features=split.feature_NxF.shape[1])
    else:
        image_size = config.augmentation.crop or split.image_NxSxSxC.shape[1]
        network, params, stats = build_network(config, image_size=image_size)
    return network, {"params": params, "stats": stats}


def _optimizer(
    config: Config, learning_rate: optax.Schedule, params: PureDict, proxies: Proxies
) -> optax.GradientTransformation:
    settings, whole = config.optimizer, jax.tree.map(lambda _: 1.0, proxies)
    return adam(
        learning_rate,
        (trainable.rate_shares(config, params), whole),
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
    )


def on_all_devices(mesh: Mesh, arrays: Any) -> Any:
    """Puts process 0's arrays on all devices; not bound to any, they compile the step twice."""
    if jax.process_count() > 1:  # Processors of other kinds may round in other ways.
        arrays = multihost_utils.broadcast_one_to_all(arrays)
    return sharding.replicate(mesh, arrays)


def _jitted_step(recipe: Recipe) -> Any:
    return compilation.jit(
        functools.partial(train_steps, recipe=recipe),
        donate_argnums=0,
        out_shardings=sharding.replicated(recipe.mesh),
    )


@full_memory_explained()
def compiled(training: Training) -> Training:
    """Returns a training whose step is compiled before the first batch is there."""
    lowered = training.step.lower(*training.arguments(training.state, training.source.shapes(), 1))
    return dataclasses.replace(training, step=lowered.compile())


def _batch_size(config: Config, goal: objectives.Objective, split: Split, *, devices: int) -> int:
    """The tuples in a batch: `batch_size`, or as many as can be drawn."""
    most = max(2, goal.most_tuples(sampling.artist_rows(split.artist_N)))
    in_chunks = 0 < config.chunk_size < most
    parts = config.chunk_size if in_chunks else devices
    if most < config.batch_size and most % parts:
        fitting = most // parts * parts
        remedy = f"set it to {fitting}" if fitting > 1 else f"show JAX at most {most} devices"
        who = f"chunks of {parts} do not divide" if in_chunks else f"{parts} devices cannot share"
        raise InputError(
            f"batch_size is {config.batch_size}, but training has only {most}"
            f" {config.loss.sampler}, which {who}: {remedy}"
        )
    return min(config.batch_size, most)


def _plan(config: Config, steps_per_epoch: int, start: int) -> pipeline.DispatchPlan:
    steps_per_dispatch = min(config.steps_per_dispatch, steps_per_epoch)
    return pipeline.DispatchPlan(config.num_epochs, steps_per_epoch, steps_per_dispatch, start)


def schedule(config: Config, plan: pipeline.DispatchPlan) -> optax.Schedule:
    """Returns a config's learning rate by step."""
    settings = config.optimizer
    if settings.schedule == "cosine":
        rate = cosine_decay(learning_rate=settings.learning_rate, num_steps=max(1, plan.num_steps))
    else:
        rate = piecewise_decay(
            learning_rate=settings.learning_rate,
            milestones=settings.milestones,
            decay=settings.decay,
            steps_per_epoch=plan.steps_per_epoch,
        )
    return warmed_up(rate, num_steps=settings.warmup_steps)


def initial_proxies(config: Config, *, num_artists: int) -> Proxies:
    """Returns a random direction for each artist; it depends on `seed` alone."""
    key = jax.random.fold_in(jax.random.key(config.seed), num_artists)
    shape = (num_artists, config.model.embedding_dim)
    return {"artist": jax.random.normal(key, shape, jnp.float32) / math.sqrt(shape[1])}
