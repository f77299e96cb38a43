"""Recipes by name, and what JSON does to them."""

from pathlib import Path

import pytest

from configs import default
from painterjax.common.config import as_config, as_json, find_recipe
from painterjax.common.errors import InputError


def test_a_name_is_a_shipped_recipe_and_a_path_is_a_path():
    assert Path(find_recipe("quickstart")).is_file()
    assert find_recipe("quickstart.py") == "quickstart.py"
    assert find_recipe("my/quickstart") == "my/quickstart"
    with pytest.raises(InputError, match=r"quickstrat.* quickstart"):
        find_recipe("quickstrat")


def test_a_recipe_comes_back_from_json_as_it_was():
    config = default.get_config().to_dict()
    assert as_config(as_json(config)).to_dict() == config
