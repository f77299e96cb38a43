"""From a config and a store to everything that a run needs, checked before any work starts."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp
from flax import nnx

from painterjax import losses, objectives, optim, pipeline, runfolder
from painterjax.augment import Augmentation
from painterjax.errors import InputError
from painterjax.model import StyleNet
from painterjax.objectives import Scalars
from painterjax.step import Recipe, TrainState, split_network, train_step
from painterjax.store import Split

POSITIVE = (
    "batch_size", "num_epochs", "log_every_steps", "checkpoint_every_steps",
    "model.embedding_dim", "loss.margin", "loss.paintings_per_artist", "optimizer.learning_rate",
    "optimizer.decay", "eval.batch_size", "eval.triplets",
)  # fmt: skip
NOT_NEGATIVE = ("seed", "augmentation.shift", "augmentation.rotation")
WHOLE_NUMBERS = ("model.widths", "model.depths", "optimizer.milestones")  # tuples of them, above 0
CHOICES = {
    "data.residency": pipeline.RESIDENCIES,
    "model.dtype": ("float32", "bfloat16"),
    "model.batch_norm": ("branch", "batch"),
    "loss.name": tuple(objectives.OBJECTIVES),
    "loss.distance": tuple(losses.DISTANCES),
}


@dataclasses.dataclass(frozen=True)
class Training:
    """What the training loop takes.

    Attributes:
      step: the jitted train step.
      state: what training starts from.
      key: of the augmentation.
      image_NxSxSxC: all training images, on the device; None where each batch brings its own.
      batches: batch i is for step i, to the run's end.
      num_steps: how far to go.
      steps_per_epoch: where epochs end.
      images_per_step: how many images a batch has.
    """

    step: Callable[..., tuple[TrainState, Scalars]]
    state: TrainState
    key: jax.Array
    image_NxSxSxC: jax.Array | None
    batches: grain.DatasetIterator[pipeline.Batch]
    num_steps: int
    steps_per_epoch: int
    images_per_step: int

    def run_step(self, state: TrainState, batch: pipeline.Batch) -> tuple[TrainState, Scalars]:
        """Takes one step: the next state and the scalars to log; `state` is donated."""
        image_NxSxSxC = batch["image"] if self.image_NxSxSxC is None else self.image_NxSxSxC
        return self.step(state, batch["row"], batch["artist"], image_NxSxSxC, self.key)


def check(config: runfolder.Config, *, image_size: int) -> None:
    """Raises InputError where a value is impossible; the message names its key and the remedy."""
    _check_values(runfolder.flatten(config.to_dict()))
    widths, depths = config.model.widths, config.model.depths
    if len(widths) != len(depths) or not widths:
        raise InputError(
            f"model.widths is {widths}, model.depths {depths}: give one of each per block"
        )
    if image_size % 2 ** len(widths):
        raise InputError(
            f"{len(widths)} blocks need images with a side divisible by {2 ** len(widths)}, the"
            f" store's have {image_size}: prepare another, or use fewer blocks"
        )
    artists, paintings = config.batch_size, config.loss.paintings_per_artist
    if config.loss.name == "batch_all" and min(artists, paintings) < 2:
        raise InputError(
            f"batch_size is {artists}, loss.paintings_per_artist {paintings}: batch_all compares"
            " two artists or more, with two paintings or more"
        )
    if config.checkpoint_every_steps % config.log_every_steps:
        raise InputError(
            f"checkpoint_every_steps is {config.checkpoint_every_steps}, log_every_steps"
            f" {config.log_every_steps}: the first must be a multiple of the second"
        )


def _check_values(values: dict[str, Any]) -> None:
    """Checks each key by itself."""
    checked = (*POSITIVE, *NOT_NEGATIVE, *WHOLE_NUMBERS, *CHOICES, "augmentation.scale")
    missing = [key for key in checked if key not in values]
    if missing:
        raise InputError(f"the recipe lacks {', '.join(missing)}: begin it with configs/default.py")
    for key in POSITIVE:
        if not 0 < values[key] < math.inf:
            raise InputError(f"{key} is {values[key]}: must be above 0 and finite")
    for key in NOT_NEGATIVE:
        if not 0 <= values[key] < math.inf:
            raise InputError(f"{key} is {values[key]}: must be 0 or above and finite")
    for key in WHOLE_NUMBERS:
        if not all(isinstance(value, int) and value > 0 for value in values[key]):
            raise InputError(f"{key} is {values[key]}: must hold whole numbers above 0")
    for key, known in CHOICES.items():
        if values[key] not in known:
            raise InputError(f"{key} is {values[key]!r}, known are {', '.join(known)}")
    match values["augmentation.scale"]:
        case (int() | float() as least, int() | float() as most) if 0 < least <= most < math.inf:
            pass
        case scale:
            raise InputError(f"augmentation.scale is {scale}: must be (least, most), above 0")


def network(config: runfolder.Config, *, image_size: int) -> StyleNet:
    """Returns a config's untrained network; its weights depend on `seed` alone."""
    return StyleNet(
        image_size=image_size,
        widths=config.model.widths,
        depths=config.model.depths,
        embedding_dim=config.model.embedding_dim,
        dtype=jnp.dtype(config.model.dtype),
        rngs=nnx.Rngs(config.seed),
    )


def objective(config: runfolder.Config, name: str) -> objectives.Objective:
    """Returns the objective called `name` with a config's margin, distance and tuple size."""
    return objectives.build(
        name=name,
        margin=config.loss.margin,
        distance=config.loss.distance,
        paintings_per_artist=config.loss.paintings_per_artist,
    )


def training(config: runfolder.Config, split: Split) -> Training:
    """Assembles what trains a config on a split; nothing has run yet but the initialization."""
    goal = objective(config, config.loss.name)
    steps_per_epoch = goal.steps_per_epoch(len(split), config.batch_size)
    num_steps = config.num_epochs * steps_per_epoch
    schedule = optim.piecewise_decay(**config.optimizer, steps_per_epoch=steps_per_epoch)
    optimizer = optim.adam(schedule)
    graphdef, params, stats = split_network(
        network(config, image_size=split.image_NxSxSxC.shape[1])
    )
    recipe = Recipe(
        network=graphdef,
        objective=goal,
        optimizer=optimizer,
        schedule=schedule,
        augmentation=Augmentation(**config.augmentation),
        branches=goal.tuple_size if config.model.batch_norm == "branch" else 1,
    )
    device = jax.devices()[0]
    state = TrainState(params, stats, optimizer.init(params), jnp.zeros((), jnp.int32))
    resident = pipeline.keep_on_device(config.data.residency, split)
    source = pipeline.Source(split, goal, config.batch_size, config.seed, resident)
    return Training(
        step=jax.jit(functools.partial(train_step, recipe=recipe), donate_argnums=0),
        # Arrays that are not bound to a device yet would compile the step a second time.
        state=jax.device_put(state, device),
        key=jax.device_put(jax.random.key(config.seed), device),
        image_NxSxSxC=jax.device_put(split.image_NxSxSxC, device) if resident else None,
        batches=pipeline.batches(source, num_batches=num_steps),
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        images_per_step=config.batch_size * goal.tuple_size,
    )
