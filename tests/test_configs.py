"""Recipes: every key is used, declared and checked, and the reference is the reference."""

import importlib
import re
from pathlib import Path

import pytest

from configs import default
from painterjax.common.config import flatten
from painterjax.common.errors import InputError
from painterjax.run import config_checks
from painterjax.run.config_rules import RULES

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
KEYS = flatten(default.get_config().to_dict())


def test_every_key_is_used_and_every_used_key_is_declared():
    text = "\n".join(path.read_text() for path in (ROOT / "painterjax").rglob("*.py"))
    code = re.sub(r'"""(?s:.*?)"""', "", text)
    # Dotted names after `config.`: keys, or groups that are passed whole.
    used = set(re.findall(r"(?<!jax\.)\b_?config\.([a-z_]+(?:\.[a-z_]+)*)", code))
    used -= {"to_dict", "lock", "json"}  # Methods of a ConfigDict, and config.json.
    assert [k for k in KEYS if not any(k == u or k.startswith(f"{u}.") for u in used)] == []
    assert used <= {*KEYS, *default.get_config()}


def test_every_key_has_a_rule_and_every_rule_a_key():
    assert RULES.keys() == KEYS.keys()
    assert len(KEYS) > 30


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_just_the_default_s_keys_and_types_and_names_its_command(recipe):
    module = importlib.import_module(f"configs.{recipe}")
    command = f"--config configs/{recipe}.py --workdir runs/"
    assert recipe == "default" or command in (module.__doc__ or "")
    keys = flatten(module.get_config().to_dict())
    assert keys.keys() == KEYS.keys()
    assert [key for key in keys if type(keys[key]) is not type(KEYS[key])] == []
    config_checks.check_keys(module.get_config())
    config_checks.check(module.get_config(), image_size=module.IMAGE_SIZE)
    with pytest.raises(AttributeError):
        module.get_config().epochs = 3


def _with(**changes):
    """The default recipe with `model__head="dense"` for `model.head`, and so on."""
    config = default.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


IN_BATCH = {"loss__name": "batch_all"}
PROXIES = {"loss__name": "cosine_classifier", "loss__margin": 0.2}
UNMOVED = {
    "augmentation__shift": 0.0, "augmentation__scale": (1.0, 1.0), "augmentation__rotation": 0.0,
    "augmentation__flips": False,
}  # fmt: skip
FROZEN = {"model__backbone": "efficientnet_lite0", "optimizer__backbone_rate": 0.0}
LORA = {"model__backbone": "clip_base_32", "model__lora_rank": 4}
FITTED = {"model__head": "linear", "head__fit": "lda", "num_epochs": 0, "loss__margin": 1.0}
STATISTICS = {"model__head": "statistics", "loss__margin": 1.0}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"model__widths": (2**31 - 1,) * 5}, r"model\.widths .*2147483647.* 65536"),
        ({"model__depths": (2**31 - 1,) * 5}, r"model\.depths .*2147483647.* 1000"),
        ({"eval__triplets": 2**31 - 1}, r"eval\.triplets .*2147483647.* 10000000"),
        ({"eval__max_paintings": 99}, r"eval\.max_paintings is 99.* from 100"),
        ({"eval__every_epochs": 0}, r"eval\.every_epochs is 0.* from 1"),
        ({"optimizer__milestones": (2**31 - 1,)}, r"optimizer\.milestones .*2147483647.* 100000"),
        ({"model__depths": (1,)}, r"model\.widths .*model\.depths \(1,\)"),
        ({"model__widths": (), "model__depths": ()}, r"model\.widths"),
        ({"model__widths": (8,) * 7, "model__depths": (1,) * 7}, r"model\.widths .* 128.* 64"),
        ({**STATISTICS, "augmentation__crop": 80}, r"augmentation\.crop is 80.* 64"),
        ({**STATISTICS, "augmentation__crop": 24}, r"augmentation\.crop is 24.* 16"),
        ({**STATISTICS, "augmentation__crop": 48}, None),
        ({"augmentation__scale": (1.2, 1.0)}, r"augmentation\.scale is \(1\.2, 1\.0\)"),
        ({"augmentation__crop": 32}, r"augmentation\.crop is 32.*model\.head"),
        ({**IN_BATCH, "batch_size": 1}, r"batch_size is 1.* 2 artists"),
        ({**IN_BATCH, "loss__paintings_per_artist": 1}, r"loss\.paintings_per_artist 1.* 2 p"),
        ({**PROXIES, "loss__paintings_per_artist": 1}, None),
        ({**PROXIES, "loss__margin": 1.0}, r"loss\.margin is 1\.0.* below 1"),
        ({**PROXIES, "loss__margin": 0.0}, None),
        ({"loss__margin": 0.0}, r"loss\.margin is 0\.0.* above 0"),
        ({**STATISTICS, "loss__margin": 2.0}, r"loss\.margin is 2\.0.* 2: lower"),
        ({"loss__name": "batch_hard_soft", "loss__margin": 0.0}, None),
        ({"loss__view_weight": 0.2}, r"loss\.view_weight is 0\.2.*model\.head dense.* to 0"),
        ({**STATISTICS, "loss__view_weight": 0.2}, None),
        (
            {**STATISTICS, **UNMOVED, "loss__view_weight": 0.2, "augmentation__tint": 0.1},
            r"loss\.view_weight is 0\.2.*nothing in space",
        ),
        (
            {**STATISTICS, **UNMOVED, **FROZEN, "optimizer__layer_decay": 0.5},
            r"optimizer\.layer_decay is 0\.5.*backbone_rate is 0.*set it to 1",
        ),
        ({**FITTED, **UNMOVED, **FROZEN}, None),
        ({"model__lora_rank": 4}, r"model\.lora_rank is 4.*conv_blocks is no transformer.*to 0"),
        ({**STATISTICS, **LORA}, None),
        (
            {**STATISTICS, **UNMOVED, **LORA, "optimizer__backbone_rate": 0.0},
            r"model\.lora_rank is 4.*backbone_rate is 0.*above 0, or the rank to 0",
        ),
        ({"optimizer__ema_decay": 1.0}, r"optimizer\.ema_decay is 1\.0.* below 1"),
        ({"optimizer__layer_decay": 0.0}, r"optimizer\.layer_decay is 0\.0.* above 0"),
        ({"batch_size": 12, "chunk_size": 8}, r"batch_size is 12, chunk_size 8.* multiple of"),
        ({"loss__sampler": "paintings"}, r"loss\.sampler is paintings, but triplet.* to artists"),
        ({**PROXIES, "loss__sampler": "paintings"}, None),
        ({"log_every_steps": 3}, r"checkpoint_every_steps is 1000, log_every_steps 3"),
        ({"steps_per_dispatch": 4}, r"log_every_steps is 50, steps_per_dispatch 4"),
    ],
)
def test_keys_that_do_not_agree_are_refused_by_name_and_value(changes, refused):
    if refused is None:
        config_checks.check(_with(**changes), image_size=64)
        return
    with pytest.raises(InputError, match=refused):
        config_checks.check(_with(**changes), image_size=64)


def test_missing_and_unknown_keys_are_refused_by_name():
    config = default.get_config().unlock()
    del config.loss.margin
    with pytest.raises(InputError, match=r"lacks loss\.margin"):
        config_checks.check_keys(config)
    with pytest.raises(
        InputError, match=r"runs/x was made by another version .*lacks loss\.margin"
    ):
        config_checks.check_keys(config, of=Path("runs/x"))
    config.loss.margin, config.loss.old = 2.0, 1
    with pytest.raises(InputError, match=r"unknown .*loss\.old"):
        config_checks.check_keys(config)
    with pytest.raises(InputError, match=r"has loss\.old besides\): use that .*or train again"):
        config_checks.check_keys(config, of=Path("runs/x"))


def test_the_reference_is_the_reference():
    keys = flatten(importlib.import_module("configs.painter_by_numbers").get_config().to_dict())
    reference = {
        "batch_size": 8, "num_epochs": 50, "loss.name": "triplet", "loss.margin": 2.0,
        "loss.distance": "euclidean", "model.widths": (16, 32, 64, 128, 256),
        "model.depths": (2, 3, 3, 3, 3), "model.embedding_dim": 2048, "model.batch_norm": "branch",
        "optimizer.learning_rate": 1e-4, "optimizer.milestones": (11, 25, 40),
        "optimizer.decay": 0.1, "augmentation.shift": 0.2, "augmentation.scale": (1.0, 1.2),
        "augmentation.rotation": 180.0, "augmentation.flips": True,
    }  # fmt: skip
    assert reference.items() <= keys.items()
