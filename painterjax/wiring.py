"""From a config and a store to everything that a run needs."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from painterjax import cluster, compilation, model, objectives, optim, pipeline, runfolder
from painterjax import mesh as meshes
from painterjax.augment import Augmentation
from painterjax.errors import InputError
from painterjax.objectives import Proxies, Scalars
from painterjax.step import PureDict, Recipe, TrainState, split_network, train_steps
from painterjax.store import Split


@dataclasses.dataclass(frozen=True)
class Training:
    """What the training loop takes.

    Attributes:
      mesh: the devices that share a batch.
      step: the jitted train_steps.
      state: what training starts from.
      key: of the augmentation.
      image_NxSxSxC: all training images, on every device; None where each batch brings its own.
      source: draws the batches.
      batches: what each dispatch takes, to the run's end.
      plan: which steps those are.
      images_per_step: how many images a batch has.
    """

    mesh: Mesh
    step: Callable[..., tuple[TrainState, Scalars]]
    state: TrainState
    key: jax.Array
    image_NxSxSxC: jax.Array | None
    source: pipeline.Source
    batches: grain.DatasetIterator[pipeline.Batch]
    plan: pipeline.Plan
    images_per_step: int

    def run(
        self, state: TrainState, batch: pipeline.Batch, count: int
    ) -> tuple[TrainState, Scalars]:
        """Takes `count` steps: the last state and the scalars of each; `state` is donated."""
        return self.step(*self.arguments(state, batch, count))

    def arguments(self, state: TrainState, batch: pipeline.Batch, count: int) -> tuple[Any, ...]:
        """Returns what `step` takes."""
        image = batch["image"] if self.image_NxSxSxC is None else self.image_NxSxSxC
        # A plain int would take a third of a millisecond to hand over.
        return state, batch["row"], batch["artist"], image, self.key, np.int32(count)

    def drive(
        self, state: TrainState, *, after: int
    ) -> Iterator[tuple[range, TrainState, Scalars, float]]:
        """Trains behind step `after` to the run's end, a dispatch at a time.

        Yields, as soon as the device has its orders: the steps taken, the state behind them, the
        scalars of each, and for how many seconds there was no batch.
        """
        for dispatch in range(self.plan.dispatch_after(after), self.plan.num_dispatches):
            steps = self.plan.steps(dispatch)
            asked_s = time.perf_counter()
            batch = next(self.batches)
            wait_s = time.perf_counter() - asked_s
            state, scalars = self.run(state, batch, len(steps))
            yield steps, state, scalars, wait_s


@contextlib.contextmanager
def full_memory_explained() -> Iterator[None]:
    """Turns an exhausted memory into an InputError that says what to lower."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            "the memory is full: lower batch_size, model.embedding_dim or model.widths, or set"
            " data.residency to host"
        ) from error


@full_memory_explained()
def network(
    config: runfolder.Config, *, image_size: int
) -> tuple[nnx.GraphDef[model.StyleNet], PureDict, PureDict]:
    """Returns a config's untrained network as its structure, parameters and BatchNorm statistics.

    The weights depend on `seed` alone.
    """

    def build() -> model.StyleNet:
        return model.StyleNet(
            image_size=image_size,
            widths=config.model.widths,
            depths=config.model.depths,
            head=config.model.head,
            embedding_dim=config.model.embedding_dim,
            dtype=jnp.dtype(config.model.dtype),
            rngs=nnx.Rngs(config.seed),
        )

    # As one program: array by array it takes seconds to compile.
    params, stats = jax.jit(lambda: split_network(build())[1:])()
    return split_network(nnx.eval_shape(build))[0], params, stats


def objective(config: runfolder.Config, name: str) -> objectives.Objective:
    """Returns the objective called `name` with a config's margin, distance and tuple size."""
    return objectives.build(
        name=name,
        margin=config.loss.margin,
        distance=config.loss.distance,
        scale=config.loss.scale,
        paintings_per_artist=config.loss.paintings_per_artist,
    )


@full_memory_explained()
def training(config: runfolder.Config, split: Split) -> Training:
    """Assembles what trains a config on a split; nothing has run yet but the initialization."""
    goal = objective(config, config.loss.name)
    plan = _plan(config, steps_per_epoch=goal.steps_per_epoch(len(split), config.batch_size))
    learning_rate = schedule(config, plan)
    optimizer = optim.adam(learning_rate, weight_decay=config.optimizer.weight_decay)
    image_size = config.augmentation.crop or split.image_NxSxSxC.shape[1]
    graphdef, params, stats = network(config, image_size=image_size)
    proxies = initial_proxies(config, num_artists=len(split.artists)) if goal.has_proxies else {}
    mesh = meshes.of_all_devices()
    recipe = Recipe(
        network=graphdef,
        objective=goal,
        optimizer=optimizer,
        schedule=learning_rate,
        augmentation=Augmentation(**config.augmentation),
        branches=goal.tuple_size if config.model.batch_norm == "branch" else 1,
        mesh=mesh,
    )
    state = TrainState(
        params, proxies, stats, optimizer.init((params, proxies)), jnp.zeros((), jnp.int32)
    )
    key = jax.random.key(config.seed)
    # The writer's memory decides; another that has less says so itself.
    with cluster.together():
        resident = pipeline.keep_on_device(config.data.residency, split)
    resident = cluster.share(resident)
    source = pipeline.Source(split, goal, config.batch_size, config.seed, resident, plan, mesh)
    return Training(
        mesh=mesh,
        step=jax.jit(
            functools.partial(train_steps, recipe=recipe),
            donate_argnums=0,
            out_shardings=meshes.replicated(mesh),
            compiler_options=compilation.options(config.model.dtype),
        ),
        # Arrays that are not bound to devices yet would compile the step a second time.
        state=meshes.replicate(mesh, state),
        key=jax.random.wrap_key_data(meshes.replicate(mesh, jax.random.key_data(key))),
        image_NxSxSxC=meshes.replicate(mesh, split.image_NxSxSxC) if resident else None,
        source=source,
        batches=pipeline.batches(source),
        plan=plan,
        images_per_step=config.batch_size * goal.tuple_size,
    )


def _plan(config: runfolder.Config, *, steps_per_epoch: int) -> pipeline.Plan:
    if config.steps_per_dispatch > steps_per_epoch:
        raise InputError(
            f"steps_per_dispatch is {config.steps_per_dispatch}, but an epoch has only"
            f" {steps_per_epoch} steps: lower it"
        )
    return pipeline.Plan(config.num_epochs, steps_per_epoch, config.steps_per_dispatch)


def schedule(config: runfolder.Config, plan: pipeline.Plan) -> optax.Schedule:
    """Returns a config's learning rate by step."""
    settings = config.optimizer
    if settings.schedule == "cosine":
        return optim.cosine_decay(learning_rate=settings.learning_rate, num_steps=plan.num_steps)
    return optim.piecewise_decay(
        learning_rate=settings.learning_rate,
        milestones=settings.milestones,
        decay=settings.decay,
        steps_per_epoch=plan.steps_per_epoch,
    )


def initial_proxies(config: runfolder.Config, *, num_artists: int) -> Proxies:
    """Returns a random direction for each artist; it depends on `seed` alone."""
    key = jax.random.fold_in(jax.random.key(config.seed), num_artists)
    shape = (num_artists, config.model.embedding_dim)
    return {"artist": jax.random.normal(key, shape) / math.sqrt(shape[1])}
