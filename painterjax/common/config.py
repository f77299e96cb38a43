"""Recipes: where the shipped ones are, how two differ, and how JSON stores one."""

import json
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
    """Returns the path of a shipped recipe; what is a path already stays as it is.

    Raises:
      InputError: no recipe is called so.
    """
    if not name or "/" in name or name.endswith(".py"):
        return name
    path = recipe_folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in recipe_folder().glob("*.py")))
        raise InputError(
            f"no recipe is called {name!r}: the shipped ones are {known}; or give a path"
        )
    return str(path)


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
