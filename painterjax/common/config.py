"""Recipes: where the shipped ones are, how two differ, and how JSON stores one."""

import difflib
import functools
import json
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from painterjax.common.errors import InputError

PACKAGE = Path(__file__).parents[1]

# An ml_collections ConfigDict, whose own annotations let every key be of any of several types.
Config = Any


def recipe_folder() -> Path:
    """Returns the folder of the shipped recipes: in the wheel, or in the clone."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def find_recipe(name: str) -> str:
    """Returns the path of a recipe: a shipped one by its name, or as configs/NAME.py from anywhere.

    Raises:
      InputError: no recipe is called so, or none is at that path.
    """
    path = Path(name)
    if not name or path.is_file():
        return name
    shipped = recipe_folder() / f"{path.stem}.py"
    if name in (path.stem, f"configs/{path.stem}.py") and shipped.is_file():
        return str(shipped)
    known = ", ".join(sorted(recipe.stem for recipe in recipe_folder().glob("*.py")))
    is_path = "/" in name or name.endswith(".py")
    missing = f"no recipe at {name}" if is_path else f"no recipe is called {name!r}"
    raise InputError(f"{missing}: the shipped ones are {known}; or give a path")


ABBREVIATIONS = {"bs": "batch_size", "lr": "learning_rate", "wd": "weight_decay"}


def check_key(key: str) -> None:
    """Raises InputError where no recipe has a key; the message suggests the one that is meant.

    A key may be meant by its last name, by a part of it, or by a usual abbreviation.
    """
    keys = _known_keys()
    if key.partition("[")[0] in (*keys, *(known.rpartition(".")[0] for known in keys)):
        return
    word = ABBREVIATIONS.get(name := key.rpartition(".")[2], name)
    last = {known: known.rpartition(".")[2] for known in keys}
    alike = difflib.get_close_matches(word, last.values(), n=1)
    meant = (
        [known for known in keys if last[known] == word]
        or [known for known in keys if len(word) > 2 and word in last[known]]
        or [known for known in keys if last[known] in alike]
    )
    in_group = [known for known in meant if known.rpartition(".")[0] == key.rpartition(".")[0]]
    meant = in_group or meant
    hint = f"did you mean {' or '.join(meant)}?" if meant else "configs/default.py has them all"
    raise InputError(f"unknown key {key}: {hint}")


@functools.cache
def _known_keys() -> tuple[str, ...]:
    """Every key of a recipe, with dots."""
    return tuple(flatten(default_values()))


def default_values() -> dict[str, Any]:
    """Returns the values of configs/default.py, which has every key."""
    return runpy.run_path(str(recipe_folder() / "default.py"))["get_config"]().to_dict()


def make_bases_importable(recipe: Path) -> None:
    """Lets a recipe import its base as `configs.NAME`, from any folder.

    A shipped recipe gets the shipped bases. Another one gets first those of a folder `configs` that
    it lies in, then those of one at hand, then the shipped ones.
    """
    bases, own = types.ModuleType("configs"), recipe.resolve().parent
    bases.__path__ = [str(recipe_folder())]
    if own != recipe_folder():
        sys.path.insert(0, os.getcwd())  # As `python -m` does, and the console script does not.
        at_hand = [own] if own.name == "configs" else []
        bases.__path__[:0] = map(str, [*at_hand, Path.cwd() / "configs"])
    # By sys.path a package `configs` at hand, with an __init__.py, would hide the others.
    sys.modules["configs"] = bases


def recipe_image_size(name: str) -> int | None:
    """Returns the side of the images that a recipe is for; None where it does not say.

    Raises:
      InputError: no recipe is called so, or it cannot be loaded.
    """
    path = Path(find_recipe(name))
    make_bases_importable(path)
    try:
        return runpy.run_path(str(path)).get("IMAGE_SIZE")
    except Exception as error:  # A recipe is a program, and can fail with anything.
        raise InputError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested dicts as one, with dotted keys.

    >>> flatten({"seed": 0, "loss": {"margin": 2.0}})
    {'seed': 0, 'loss.margin': 2.0}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def changes(was: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns both values of each dotted key in which nested dicts differ; None where it lacks.

    >>> changes({"seed": 0, "loss": {"margin": 2.0}}, {"seed": 3, "loss": {"margin": 2.0}})
    {'seed': (0, 3)}
    """
    one, other = flatten(was), flatten(now)
    pairs = {key: (one.get(key), other.get(key)) for key in {**one, **other}}
    return {key: (value, new) for key, (value, new) in pairs.items() if value != new}


def as_config(value: dict[str, Any]) -> Config:
    """Returns the config that JSON has made plain dicts and lists of."""
    return config_dict.ConfigDict(_with_tuples(value))


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(value))


def _with_tuples(value: Any) -> Any:
    """Undoes what JSON does to tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
