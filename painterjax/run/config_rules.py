"""A rule for each key of a recipe: what its value must be, and whether a run may change it."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from painterjax.data import pipeline, sampling
from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses
from painterjax.model.backbones import BACKBONES
from painterjax.model.heads import HEADS

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
LEAST_JUDGED = 100  # The standard error of a recall@1 of 0.5 is 0.05 then.


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
TRUE_OR_FALSE = Rule("True or False", lambda value: isinstance(value, bool))

# A row for each key of configs/default.py.
RULES = {
    "seed": _whole(0),
    "batch_size": _whole(1, MAX_BATCH),
    "chunk_size": _whole(0, MAX_BATCH),
    "num_epochs": _growing(_whole(0, MAX_EPOCHS)),
    "steps_per_dispatch": _changeable(_whole(1)),
    "log_every_steps": _changeable(_whole(1)),
    "checkpoint_every_steps": _changeable(_whole(1)),
    "checkpoint_keep_every_epochs": _changeable(_whole(0, MAX_EPOCHS)),
    "data.store": _changeable(Rule("the name of a folder", lambda value: isinstance(value, str))),
    "data.residency": _changeable(_one_of(pipeline.RESIDENCIES)),
    "model.backbone": _one_of(BACKBONES),
    # The SHA-256 of its contents may not change.
    "model.weights": _changeable(
        Rule("the name of a file, or empty", lambda value: isinstance(value, str))
    ),
    "model.stages": _several(_whole(0, MAX_DEPTH)),
    "model.widths": _several(_whole(1, MAX_WIDTH)),
    "model.depths": _several(_whole(1, MAX_DEPTH)),
    "model.head": _one_of(HEADS),
    "model.embedding_dim": _whole(1, MAX_WIDTH),
    "model.dtype": _one_of(("float32", "bfloat16")),
    "model.remat": _changeable(TRUE_OR_FALSE),
    "model.batch_norm": _one_of(("branch", "batch", "frozen")),
    "model.lora_rank": _whole(0, MAX_WIDTH),
    "head.fit": _one_of(("gradient", "lda")),
    "loss.name": _one_of(objectives.LOSSES),
    "loss.margin": NOT_NEGATIVE,
    "loss.distance": _one_of(tuple_losses.DISTANCES),
    "loss.scale": POSITIVE,
    "loss.view_weight": NOT_NEGATIVE,
    "loss.paintings_per_artist": _whole(1, MAX_PAINTINGS),
    "loss.sampler": _one_of(sampling.SAMPLERS),
    "optimizer.learning_rate": POSITIVE,
    "optimizer.schedule": _one_of(("piecewise", "cosine")),
    "optimizer.milestones": _several(_whole(1, MAX_EPOCHS)),
    "optimizer.decay": POSITIVE,
    "optimizer.backbone_rate": NOT_NEGATIVE,
    "optimizer.layer_decay": _number("above 0 and at most 1", lambda value: 0 < value <= 1),
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.warmup_steps": _whole(0),
    "optimizer.clip_norm": NOT_NEGATIVE,
    "optimizer.ema_decay": _number("of at least 0 and below 1", lambda value: 0 <= value < 1),
    "augmentation.crop": _whole(0),
    "augmentation.shift": NOT_NEGATIVE,
    "augmentation.scale": _several(POSITIVE, count=2),
    "augmentation.rotation": NOT_NEGATIVE,
    "augmentation.flips": TRUE_OR_FALSE,
    "augmentation.contrast": NOT_NEGATIVE,
    "augmentation.brightness": NOT_NEGATIVE,
    "augmentation.tint": NOT_NEGATIVE,
    "eval.batch_size": _changeable(_whole(1, MAX_BATCH)),
    "eval.triplets": _changeable(_whole(1, MAX_TRIPLETS)),
    "eval.max_paintings": _changeable(_whole(LEAST_JUDGED)),
    "eval.every_epochs": _changeable(_whole(1, MAX_EPOCHS)),
    "eval.floors": _changeable(TRUE_OR_FALSE),
}
