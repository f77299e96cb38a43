"""Whether a config can train at all: said before any work starts."""

import itertools
from typing import Any

import numpy as np

from painterjax.common.config import Config, flatten
from painterjax.common.errors import InputError
from painterjax.data import pipeline
from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses
from painterjax.model.network import HEADS

# Of what device arrays count with.
LARGEST_COUNT, LARGEST = 2**31 - 1, float(np.finfo(np.float32).max)
COUNTS = (
    "seed", "batch_size", "num_epochs", "steps_per_dispatch", "log_every_steps",
    "checkpoint_every_steps", "model.embedding_dim", "loss.paintings_per_artist",
    "augmentation.crop", "eval.batch_size", "eval.triplets",
)  # fmt: skip
POSITIVE = (
    "batch_size", "num_epochs", "steps_per_dispatch", "log_every_steps", "checkpoint_every_steps",
    "model.embedding_dim", "loss.scale", "loss.paintings_per_artist", "optimizer.learning_rate",
    "optimizer.decay", "eval.batch_size", "eval.triplets",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "loss.margin", "optimizer.weight_decay", "augmentation.crop", "augmentation.shift",
    "augmentation.rotation", "augmentation.contrast", "augmentation.brightness",
    "augmentation.tint",
)  # fmt: skip
WHOLE_NUMBERS = ("model.widths", "model.depths", "optimizer.milestones")  # tuples of them, above 0
CHOICES = {
    "data.residency": pipeline.RESIDENCIES,
    "model.dtype": ("float32", "bfloat16"),
    "model.head": tuple(HEADS),
    "model.batch_norm": ("branch", "batch"),
    "loss.name": tuple(objectives.LOSSES),
    "loss.distance": tuple(tuple_losses.DISTANCES),
    "optimizer.schedule": ("piecewise", "cosine"),
}


def check(config: Config, *, image_size: int) -> None:
    """Raises InputError where a value is impossible; the message names its key and the remedy."""
    _check_values(flatten(config.to_dict()))
    _check_sizes(config, image_size)
    _check_loss(config)
    _check_intervals(config)


def check_devices(config: Config, devices: int) -> None:
    """Raises InputError where a batch cannot be split over that many devices."""
    if config.batch_size % devices:
        raise InputError(
            f"batch_size is {config.batch_size}, over {devices} devices: must be divisible by"
            " their number, or show JAX fewer"
        )


def check_keys(config: Config) -> None:
    """Raises InputError where a recipe, or a run of another version, has other keys than these."""
    known = flatten(config.to_dict())
    needed = (
        *POSITIVE,
        *NOT_NEGATIVE,
        *WHOLE_NUMBERS,
        *CHOICES,
        "augmentation.scale",
        "augmentation.flips",
        "data.store",
    )
    missing = [key for key in needed if key not in known]
    if missing:
        raise InputError(f"the recipe lacks {', '.join(missing)}: begin it with configs/default.py")
    unknown = [key for key in known if key not in needed]
    if unknown:
        raise InputError(f"unknown are {', '.join(unknown)}: begin with configs/default.py")
    if not isinstance(known["data.store"], str):
        raise InputError(f"data.store is {known['data.store']!r}: must be the name of a folder")


def _check_sizes(config: Config, image_size: int) -> None:
    widths, depths = config.model.widths, config.model.depths
    if len(widths) != len(depths) or not widths:
        raise InputError(
            f"model.widths is {widths}, model.depths {depths}: give one of each per block"
        )
    head, crop = HEADS[config.model.head], config.augmentation.crop
    pools = len(widths) - 1 + head.pools
    if image_size % 2**pools:
        raise InputError(
            f"{pools} pools need images with a side divisible by {2**pools}, the store's have"
            f" {image_size}: prepare another, or use fewer blocks"
        )
    if crop > image_size or crop % 2**pools:
        raise InputError(
            f"augmentation.crop is {crop}: must be divisible by {2**pools} and at most the store's"
            f" {image_size}"
        )
    if not head.any_size and crop not in (0, image_size):
        raise InputError(
            f"augmentation.crop is {crop}, but model.head {config.model.head} takes only whole"
            " images: set it to 0, or use --config.model.head=statistics"
        )


def _check_loss(config: Config) -> None:
    name, artists, paintings = (
        config.loss.name, config.batch_size, config.loss.paintings_per_artist,
    )  # fmt: skip
    loss = objectives.LOSSES[name]
    if "margin" in loss.takes:
        _check_margin(config)
    least = 1 if loss.has_proxies else 2
    if loss.in_batch and (artists < 2 or paintings < least):
        raise InputError(
            f"batch_size is {artists}, loss.paintings_per_artist {paintings}: {name} compares"
            f" 2 artists or more, with {least} paintings or more"
        )


def _check_margin(config: Config) -> None:
    name, head, margin = config.loss.name, config.model.head, config.loss.margin
    if objectives.LOSSES[name].has_proxies:
        if margin >= 1:
            raise InputError(f"loss.margin is {margin}: with {name} it is a cosine, below 1")
    elif not margin:
        raise InputError(f"loss.margin is 0.0: with {name} it must be above 0")
    elif margin >= 2 and HEADS[head].unit_length:
        raise InputError(
            f"loss.margin is {margin}: with model.head {head} no distance is above 2: lower it"
        )


def _check_intervals(config: Config) -> None:
    """Records and checkpoints are made between dispatches, and a checkpoint ends a record."""
    keys = ("steps_per_dispatch", "log_every_steps", "checkpoint_every_steps")
    for short, long in itertools.pairwise(keys):
        if config[long] % config[short]:
            raise InputError(
                f"{long} is {config[long]}, {short} {config[short]}:"
                " the first must be a multiple of the second"
            )


def _check_values(values: dict[str, Any]) -> None:
    """Checks each key by itself."""
    for key in (*POSITIVE, *NOT_NEGATIVE):
        _check_number(key, values[key])
    for key in POSITIVE:
        if not 0 < values[key] <= LARGEST:
            raise InputError(f"{key} is {values[key]}: must be above 0 and finite")
    for key in NOT_NEGATIVE:
        if not 0 <= values[key] <= LARGEST:
            raise InputError(f"{key} is {values[key]}: must be 0 or above and finite")
    for key in WHOLE_NUMBERS:
        counts = values[key] if isinstance(values[key], tuple | list) else (None,)
        if not all(type(value) is int and 0 < value <= LARGEST_COUNT for value in counts):
            raise InputError(f"{key} is {values[key]}: must hold whole numbers above 0")
    for key, known in CHOICES.items():
        if values[key] not in known:
            raise InputError(f"{key} is {values[key]!r}, known are {', '.join(known)}")
    match values["augmentation.scale"]:
        case (int() | float() as least, int() | float() as most) if 0 < least <= most <= LARGEST:
            pass
        case scale:
            raise InputError(f"augmentation.scale is {scale}: must be (least, most), above 0")
    if not isinstance(values["augmentation.flips"], bool):
        raise InputError(f"augmentation.flips is {values['augmentation.flips']!r}: True or False")


def _check_number(key: str, value: Any) -> None:
    kind = "whole number" if key in COUNTS else "number"
    kinds = int if key in COUNTS else int | float
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"{key} is {value!r}: must be a {kind}")
    if key in COUNTS and value > LARGEST_COUNT:
        raise InputError(f"{key} is {value}: must be at most {LARGEST_COUNT}")
