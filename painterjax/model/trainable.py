"""What of a network trains, by the names of its arrays; the rest stays the same for a whole run."""

from typing import Any

from flax import traverse_util

from painterjax.common.config import Config
from painterjax.model.backbones import BACKBONES
from painterjax.model.build import PureDict

ADAPTER = ("lora_a", "lora_b")  # The two matrices of nnx.LoRA.


def keeps_backbone(config: Config) -> bool:
    """Returns whether the head alone trains."""
    return not config.optimizer.backbone_rate


def trains_all(config: Config) -> bool:
    """Returns whether all parameters train, and not the head alone, or with adapters."""
    return not (keeps_backbone(config) or config.model.lora_rank)


def changes_all(config: Config) -> bool:
    """Returns whether training leaves nothing as it was, neither parameters nor statistics."""
    return trains_all(config) and config.model.batch_norm != "frozen"


def divide(config: Config, arrays: PureDict) -> tuple[PureDict, PureDict]:
    """Divides a network's {params, stats} into what training changes and what it leaves alone.

    Of parameters it changes the head's, or also those of adapters (`model.lora_rank`), or all;
    BatchNorm's statistics with all of them, unless `model.batch_norm` is "frozen".
    """
    flat = traverse_util.flatten_dict(arrays)
    changing = {path for path in flat if _changes(config, *path)}
    return (
        _nested({path: array for path, array in flat.items() if path in changing}),
        _nested({path: array for path, array in flat.items() if path not in changing}),
    )


def overlay(arrays: PureDict, changed: PureDict) -> PureDict:
    """Returns a network's {params, stats} with those of `changed` in place of its own."""
    return _nested(traverse_util.flatten_dict(arrays) | traverse_util.flatten_dict(changed))


def rate_shares(config: Config, params: PureDict) -> PureDict:
    """Returns for each parameter the share of the learning rate that it trains with.

    The head has all of it, the end of the backbone `backbone_rate`, and what lies before, block by
    block, `layer_decay` of what the next one has.
    """
    settings, behind = config.optimizer, BACKBONES[config.model.backbone].behind_blocks
    num_blocks = len(params.get("backbone", {}).get("blocks", ()))

    def share(path: tuple[Any, ...], _: Any) -> float:
        part, name, *rest = path
        if part == "head":
            return 1.0
        if name == "blocks":
            distance = num_blocks - 1 - rest[0] + bool(behind)
        else:
            distance = 0 if name in behind else num_blocks + bool(behind)
        return settings.backbone_rate * settings.layer_decay**distance

    return dict(traverse_util.path_aware_map(share, params))


def _changes(config: Config, kind: str, part: str, *names: str | int) -> bool:
    if kind == "stats":
        return changes_all(config)
    return trains_all(config) or part == "head" or names[-1] in ADAPTER


def _nested(flat: PureDict) -> PureDict:
    return {"params": {}, "stats": {}} | traverse_util.unflatten_dict(flat)
