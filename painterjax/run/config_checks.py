"""Checks of a recipe before any work starts: each key by its rule, and keys that must agree."""

import itertools
from pathlib import Path

from painterjax.common.config import Config, flatten
from painterjax.common.errors import InputError
from painterjax.losses import objectives
from painterjax.model.augment import Augmentation
from painterjax.model.backbones import BACKBONES
from painterjax.model.heads import HEADS
from painterjax.model.trainable import keeps_backbone
from painterjax.run.config_rules import RULES


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
