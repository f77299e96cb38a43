"""Recipes by name, and what JSON does to them."""

from pathlib import Path

import pytest

from configs import default
from painterjax.common.config import as_config, as_json, check_key, find_recipe
from painterjax.common.errors import InputError


def test_a_name_is_a_shipped_recipe_and_a_path_is_a_path(tmp_path):
    assert Path(find_recipe("quickstart")).is_file()
    own = tmp_path / "quickstart.py"
    with pytest.raises(InputError, match=r"no recipe at .*/quickstart\.py: .* or give a path"):
        find_recipe(str(own))
    own.touch()
    assert find_recipe(str(own)) == str(own)
    with pytest.raises(InputError, match=r"quickstrat.* quickstart"):
        find_recipe("quickstrat")


def test_the_path_of_a_shipped_recipe_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("configs/quickstart.py") == find_recipe("quickstart")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").touch()
    assert find_recipe("configs/quickstart.py") == "configs/quickstart.py"


def test_a_recipe_comes_back_from_json_as_it_was():
    config = default.get_config().to_dict()
    assert as_config(as_json(config)).to_dict() == config


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("epochs", "checkpoint_keep_every_epochs or num_epochs"),
        ("model.batchnorm", "model.batch_norm"),
        ("batch_siz", "batch_size"),
    ],
)
def test_an_unknown_key_suggests_the_one_that_is_meant(key, meant):
    with pytest.raises(InputError, match=rf"unknown key {key}: did you mean {meant}\?"):
        check_key(key)
    with pytest.raises(InputError, match=r"unknown key xyz: configs/default\.py has them all"):
        check_key("xyz")
    for known in ("optimizer.learning_rate", "model.widths[0]"):
        check_key(known)
