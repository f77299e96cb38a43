"""Checks of a recipe before any work starts: a rule for each key, then for keys that must agree."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common.config import Config, flatten
from painterjax.common.errors import InputError
from painterjax.data import pipeline, sampling
from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses
from painterjax.model.augment import Augmentation
from painterjax.model.backbones import BACKBONES
from painterjax.model.heads import HEADS
from painterjax.model.trainable import keeps_backbone

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
    "eval.floors": _changeable(Rule("True or False", lambda value: isinstance(value, bool))),
}


def check_keys(config: Config, *, of: Path | None = None) -> None:
    """Raises InputError where keys are missing or unknown, as `of` a run of another version."""
    keys = flatten(config.to_dict()).keys()
    missing = [key for key in RULES if key not in keys]
    unknown = [key for key in keys if key not in RULES]
    if of is not None and (missing or unknown):
        raise InputError(
            f"{of} was made by another version of painterjax (its config.json lacks"
            f" {', '.join(missing) or 'nothing'}, and has {', '.join(unknown) or 'nothing'} besides"
            f"): use that version, see {of / 'environment.json'}, or train again with this one"
        )
    if missing:
        raise InputError(f"the recipe lacks {', '.join(missing)}: begin it with configs/default.py")
    if unknown:
        raise InputError(f"unknown are {', '.join(unknown)}: begin with configs/default.py")


def check(config: Config, *, image_size: int) -> None:
    """Raises InputError where a value is impossible; the message names its key and the remedy."""
    for key, value in flatten(config.to_dict()).items():
        if not RULES[key].accepts(value):
            raise InputError(f"{key} is {value!r}: must be {RULES[key].words}")
    _check_chunks(config)
    _check_sizes(config, image_size)
    _check_stages(config)
    _check_fit(config)
    _check_trained(config)
    _check_loss(config)
    _check_views(config)
    _check_intervals(config)


def check_devices(config: Config, devices: int) -> None:
    """Raises InputError where a batch, or a chunk of it, cannot be split over that many devices."""
    for key in ("batch_size", "chunk_size"):
        if config[key] % devices:
            raise InputError(
                f"{key} is {config[key]}, over {devices} devices: must be divisible by their"
                " number, or show JAX fewer"
            )


def _check_chunks(config: Config) -> None:
    if config.chunk_size and config.batch_size % config.chunk_size:
        raise InputError(
            f"batch_size is {config.batch_size}, chunk_size {config.chunk_size}: the first must be"
            " a multiple of the second"
        )


def _check_sizes(config: Config, image_size: int) -> None:
    widths, depths, crop = config.model.widths, config.model.depths, config.augmentation.crop
    least, most = config.augmentation.scale
    backbone, head = BACKBONES[config.model.backbone], HEADS[config.model.head]
    if len(widths) != len(depths) or not widths:
        raise InputError(f"model.widths is {widths}, model.depths {depths}: give each block both")
    divisor = backbone.divisor(config.model) * 2**head.pools
    if image_size % divisor:
        raise InputError(
            f"model.backbone {config.model.backbone} with model.widths {widths} needs images with a"
            f" side divisible by {divisor}, the store's have {image_size}: prepare another, or use"
            " fewer blocks"
        )
    if crop > image_size or crop % divisor:
        raise InputError(
            f"augmentation.crop is {crop}: must be divisible by {divisor} and at most the store's"
            f" {image_size}"
        )
    if not head.any_size and crop not in (0, image_size):
        raise InputError(
            f"augmentation.crop is {crop}, but model.head {config.model.head} takes only whole"
            " images: set it to 0, or use --config.model.head=statistics"
        )
    if least > most:
        raise InputError(f"augmentation.scale is {(least, most)}: the larger must be the second")


def _check_stages(config: Config) -> None:
    backbone, head = BACKBONES[config.model.backbone], HEADS[config.model.head]
    stages, there = config.model.stages, backbone.stages(config.model)
    if beyond := [number for number in stages if number >= there]:
        raise InputError(
            f"model.stages has {beyond[0]}, but model.backbone {config.model.backbone} has the"
            f" stages 0 to {there - 1}"
        )
    if not head.any_size and (stages or config.model.backbone != "conv_blocks"):
        raise InputError(
            f"model.backbone is {config.model.backbone}, model.stages {stages}, but model.head"
            f" {config.model.head} reads the last of the conv_blocks alone: use"
            " --config.model.head=statistics"
        )


def _check_fit(config: Config) -> None:
    """How the head is fitted: in closed form, by gradient, or both."""
    fit = config.head.fit
    if fit == "lda" and config.model.head != "linear":
        raise InputError(
            f"head.fit is lda, but model.head {config.model.head} is not linear: use"
            " --config.model.head=linear"
        )
    if fit == "lda" and BACKBONES[config.model.backbone].published is None:
        raise InputError(
            f"head.fit is lda, but model.backbone {config.model.backbone} has no published weights"
            " whose features to fit: choose a pretrained backbone, or head.fit gradient"
        )
    if fit == "gradient" and not config.num_epochs:
        raise InputError("num_epochs is 0: only head.fit lda needs none, others at least 1")


def _check_trained(config: Config) -> None:
    """What trains of the backbone: nothing, adapters, or all."""
    is_frozen = keeps_backbone(config)
    if config.model.lora_rank and not BACKBONES[config.model.backbone].takes_lora:
        raise InputError(
            f"model.lora_rank is {config.model.lora_rank}, but model.backbone"
            f" {config.model.backbone} is no transformer: set it to 0, or choose one"
        )
    if config.model.lora_rank and is_frozen:
        raise InputError(
            f"model.lora_rank is {config.model.lora_rank}, but optimizer.backbone_rate is 0, with"
            " which adapters do not train: set it above 0, or the rank to 0"
        )
    if is_frozen and config.optimizer.layer_decay != 1:
        raise InputError(
            f"optimizer.layer_decay is {config.optimizer.layer_decay}, but optimizer.backbone_rate"
            " is 0, which trains no layer of the backbone: set it to 1, or the rate above 0"
        )
    if is_frozen and BACKBONES[config.model.backbone].published is None:
        raise InputError(
            f"optimizer.backbone_rate is 0, but model.backbone {config.model.backbone} has no"
            " published weights to keep: set it above 0, or choose a pretrained backbone"
        )
    if is_frozen and Augmentation(**config.augmentation) != Augmentation():
        raise InputError(
            "optimizer.backbone_rate is 0: a frozen backbone reads each image once, so set all of"
            " augmentation to what changes nothing, or the rate above 0"
        )


def _check_loss(config: Config) -> None:
    name, artists, paintings = config.loss.name, config.batch_size, config.loss.paintings_per_artist
    loss = objectives.LOSSES[name]
    if "margin" in loss.takes:
        _check_margin(config, is_cosine=loss.has_proxies)
    if config.loss.sampler != "artists" and not loss.in_batch:
        raise InputError(
            f"loss.sampler is {config.loss.sampler}, but {name} draws tuples of its own: set it to"
            " artists, or choose a loss over artists x paintings"
        )
    least = 1 if loss.has_proxies else 2
    if loss.in_batch and (artists < 2 or paintings < least):
        raise InputError(
            f"batch_size is {artists}, loss.paintings_per_artist {paintings}: {name} compares at"
            f" least 2 artists with {least} paintings each"
        )


def _check_views(config: Config) -> None:
    """Second views of each image, if any."""
    given = f"loss.view_weight is {config.loss.view_weight}"
    if not config.loss.view_weight:
        return
    if not HEADS[config.model.head].unit_length:
        raise InputError(
            f"{given}: views are compared by their cosines, for which model.head"
            f" {config.model.head} is not trained: use --config.model.head=statistics, or set it"
            " to 0"
        )
    if Augmentation(**config.augmentation).in_space == Augmentation():
        raise InputError(
            f"{given}, but augmentation changes nothing in space, so that the second view would be"
            " the image itself: set crop, shift, scale, rotation or flips, or the weight to 0"
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
