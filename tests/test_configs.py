"""Recipes: every key is used, every used key is declared, and the reference is the reference."""

import importlib
import re
from pathlib import Path

import pytest

from configs import default
from painterjax.common.config import flatten
from painterjax.run import config_checks

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def _keys() -> dict[str, object]:
    return flatten(default.get_config().to_dict())


def _used() -> set[str]:
    """Dotted names behind `config.` in the package: keys, or groups that are passed whole."""
    text = "\n".join(path.read_text() for path in (ROOT / "painterjax").rglob("*.py"))
    code = re.sub(r'"""(?s:.*?)"""', "", text)
    others = {"to_dict", "lock", "json"}  # methods of a ConfigDict, and config.json
    return set(re.findall(r"(?<!jax\.)\bconfig\.([a-z_]+(?:\.[a-z_]+)*)", code)) - others


def test_every_key_is_used():
    groups = _used()
    dead = [k for k in _keys() if not any(k == u or k.startswith(f"{u}.") for u in groups)]
    assert dead == []


def test_every_used_key_is_declared():
    declared = [*_keys(), *default.get_config()]
    assert sorted(_used() - set(declared)) == []


@pytest.mark.parametrize(
    "key",
    [
        *config_checks.POSITIVE,
        *config_checks.NOT_NEGATIVE,
        *config_checks.WHOLE_NUMBERS,
        *config_checks.CHOICES,
    ],
)
def test_every_checked_key_is_declared(key):
    assert key in _keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_just_the_default_s_keys_and_types(recipe):
    module = importlib.import_module(f"configs.{recipe}")
    keys = flatten(module.get_config().to_dict())
    expected = _keys()
    assert keys.keys() == expected.keys()
    assert [k for k in keys if type(keys[k]) is not type(expected[k])] == []
    config_checks.check(module.get_config(), image_size=64)
    with pytest.raises(AttributeError):
        module.get_config().epochs = 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_s_docstring_names_its_command(recipe):
    doc = importlib.import_module(f"configs.{recipe}").__doc__ or ""
    assert recipe == "default" or f"--config configs/{recipe}.py --workdir runs/" in doc


def test_the_reference_is_the_reference():
    keys = flatten(importlib.import_module("configs.painter_by_numbers").get_config().to_dict())
    reference = {
        "batch_size": 8,
        "num_epochs": 50,
        "loss.name": "triplet",
        "loss.margin": 2.0,
        "loss.distance": "euclidean",
        "model.widths": (16, 32, 64, 128, 256),
        "model.depths": (2, 3, 3, 3, 3),
        "model.embedding_dim": 2048,
        "model.batch_norm": "branch",
        "optimizer.learning_rate": 1e-4,
        "optimizer.milestones": (11, 25, 40),
        "optimizer.decay": 0.1,
        "augmentation.shift": 0.2,
        "augmentation.scale": (1.0, 1.2),
        "augmentation.rotation": 180.0,
        "augmentation.flips": True,
    }
    assert reference.items() <= keys.items()
