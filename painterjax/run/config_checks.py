"""Checks of a recipe before any work starts: a rule for each key, then for keys that must agree."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from painterjax.common.config import Config, flatten
from painterjax.common.errors import InputError
from painterjax.data import pipeline
from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses
from painterjax.model.network import HEADS

MAX_INT, MAX_FLOAT = 2**31 - 1, float(np.finfo(np.float32).max)  # Of arrays on the device.
# Between two layers of this width a convolution has 155 GB of weights. JAX cannot draw an array of
# 2^64 numbers, which two layers of 2^31 - 1 channels would need.
MAX_WIDTH = 2**16  # Of an embedding as well.
MAX_DEPTH = 1000  # Convolutions in a block: Python builds and XLA compiles each one.
MAX_EPOCHS = 100_000  # The device counts steps in 32 bits: 21,000 for each of these epochs.
MAX_BATCH = 2**20  # A million images of 32 x 32 pixels are 13 GB as float32.
MAX_PAINTINGS = 1000  # By an artist in a tuple: drawing K different ones takes time with K^2.
# Drawing this many takes 0.6 GB; the standard error of an accuracy is below 0.02 % by then.
MAX_TRIPLETS = 10**7


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be, in words and as a test; and whether a run may go on with another one.

    `may_become` takes the value before and the value now.
    """

    words: str
    accepts: Callable[[Any], bool]
    may_become: Callable[[Any, Any], bool] = lambda was, now: was == now


def _whole(least: int, most: int = MAX_INT) -> Rule:
    words = f"a whole number from {least} to {most}"
    return Rule(words, lambda value: type(value) is int and least <= value <= most)


def _several(each: Rule, count: int | None = None) -> Rule:
    def accepts(value: Any) -> bool:
        is_tuple = isinstance(value, tuple | list) and count in (None, len(value))
        return is_tuple and all(map(each.accepts, value))

    values = f"{count} values" if count else "values"
    return Rule(f"a tuple of {values}, each {each.words}", accepts)


def _one_of(known: Iterable[str]) -> Rule:
    names = tuple(known)
    return Rule(f"one of {', '.join(names)}", lambda value: value in names)


def _number(words: str, accepts: Callable[[float], bool]) -> Rule:
    def is_finite(value: Any) -> bool:
        return type(value) in (int, float) and abs(value) <= MAX_FLOAT  # NaN is not.

    return Rule(f"a finite number {words}", lambda value: is_finite(value) and accepts(value))


def _changeable(rule: Rule) -> Rule:
    """For what does not change the mathematics."""
    return dataclasses.replace(rule, may_become=lambda was, now: True)


def _growing(rule: Rule) -> Rule:
    return dataclasses.replace(rule, may_become=lambda was, now: now >= was)


POSITIVE = _number("above 0", lambda value: value > 0)
NOT_NEGATIVE = _number("of at least 0", lambda value: value >= 0)

# A row for each key of configs/default.py.
RULES = {
    "seed": _whole(0),
    "batch_size": _whole(1, MAX_BATCH),
    "num_epochs": _growing(_whole(1, MAX_EPOCHS)),
    "steps_per_dispatch": _changeable(_whole(1)),
    "log_every_steps": _changeable(_whole(1)),
    "checkpoint_every_steps": _changeable(_whole(1)),
    "checkpoint_keep_every_epochs": _changeable(_whole(0, MAX_EPOCHS)),
    "data.store": _changeable(Rule("the name of a folder", lambda value: isinstance(value, str))),
    "data.residency": _changeable(_one_of(pipeline.RESIDENCIES)),
    "model.widths": _several(_whole(1, MAX_WIDTH)),
    "model.depths": _several(_whole(1, MAX_DEPTH)),
    "model.head": _one_of(HEADS),
    "model.embedding_dim": _whole(1, MAX_WIDTH),
    "model.dtype": _one_of(("float32", "bfloat16")),
    "model.batch_norm": _one_of(("branch", "batch")),
    "loss.name": _one_of(objectives.LOSSES),
    "loss.margin": NOT_NEGATIVE,
    "loss.distance": _one_of(tuple_losses.DISTANCES),
    "loss.scale": POSITIVE,
    "loss.paintings_per_artist": _whole(1, MAX_PAINTINGS),
    "optimizer.learning_rate": POSITIVE,
    "optimizer.schedule": _one_of(("piecewise", "cosine")),
    "optimizer.milestones": _several(_whole(1, MAX_EPOCHS)),
    "optimizer.decay": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "augmentation.crop": _whole(0),
    "augmentation.shift": NOT_NEGATIVE,
    "augmentation.scale": _several(POSITIVE, count=2),
    "augmentation.rotation": NOT_NEGATIVE,
    "augmentation.flips": Rule("True or False", lambda value: isinstance(value, bool)),
    "augmentation.contrast": NOT_NEGATIVE,
    "augmentation.brightness": NOT_NEGATIVE,
    "augmentation.tint": NOT_NEGATIVE,
    "eval.batch_size": _changeable(_whole(1, MAX_BATCH)),
    "eval.triplets": _changeable(_whole(1, MAX_TRIPLETS)),
}


def check_keys(config: Config) -> None:
    """Raises InputError where keys are missing or unknown, as in a run of another version."""
    keys = flatten(config.to_dict()).keys()
    if missing := [key for key in RULES if key not in keys]:
        raise InputError(f"the recipe lacks {', '.join(missing)}: begin it with configs/default.py")
    if unknown := [key for key in keys if key not in RULES]:
        raise InputError(f"unknown are {', '.join(unknown)}: begin with configs/default.py")


def check(config: Config, *, image_size: int) -> None:
    """Raises InputError where a value is impossible; the message names its key and the remedy."""
    for key, value in flatten(config.to_dict()).items():
        if not RULES[key].accepts(value):
            raise InputError(f"{key} is {value!r}: must be {RULES[key].words}")
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


def _check_sizes(config: Config, image_size: int) -> None:
    widths, depths, crop = config.model.widths, config.model.depths, config.augmentation.crop
    least, most = config.augmentation.scale
    head = HEADS[config.model.head]
    if len(widths) != len(depths) or not widths:
        raise InputError(f"model.widths is {widths}, model.depths {depths}: give each block both")
    pools = len(widths) - 1 + head.pools  # Each halves the side of an image.
    if image_size % 2**pools:
        raise InputError(
            f"model.widths is {widths}: its {pools} pools need images with a side divisible by"
            f" {2**pools}, the store's have {image_size}: prepare another, or use fewer blocks"
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
    if least > most:
        raise InputError(f"augmentation.scale is {(least, most)}: the larger must be the second")


def _check_loss(config: Config) -> None:
    name, artists, paintings = config.loss.name, config.batch_size, config.loss.paintings_per_artist
    loss = objectives.LOSSES[name]
    if "margin" in loss.takes:
        _check_margin(config, is_cosine=loss.has_proxies)
    least = 1 if loss.has_proxies else 2
    if loss.in_batch and (artists < 2 or paintings < least):
        raise InputError(
            f"batch_size is {artists}, loss.paintings_per_artist {paintings}: {name} compares at"
            f" least 2 artists with {least} paintings each"
        )


def _check_margin(config: Config, *, is_cosine: bool) -> None:
    given = f"loss.margin is {config.loss.margin}: with {config.loss.name}"
    if is_cosine and config.loss.margin >= 1:
        raise InputError(f"{given} it is a cosine, and must be below 1")
    if not is_cosine and not config.loss.margin:
        raise InputError(f"{given} it must be above 0")
    if not is_cosine and HEADS[config.model.head].unit_length and config.loss.margin >= 2:
        raise InputError(f"{given} and this model.head no distance is above 2: lower it")


def _check_intervals(config: Config) -> None:
    """Records are written between dispatches, and checkpoints with a record."""
    keys = ("steps_per_dispatch", "log_every_steps", "checkpoint_every_steps")
    for short, long in itertools.pairwise(keys):
        if config[long] % config[short]:
            raise InputError(
                f"{long} is {config[long]}, {short} {config[short]}:"
                " the first must be a multiple of the second"
            )
