"""--help: what it lists, and that it is there at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from painterjax import __main__
from painterjax.common import config, documentation

ROOT = Path(__file__).parents[2]
SLOW = ("jax", "flax", "orbax", "optax", "grain", "faiss", "sklearn", "matplotlib")
HELP = f"""
import sys
from painterjax import __main__
for name in __main__.COMMANDS:
    sys.argv = ["painterjax", name, "--help"]
    try:
        __main__.main()
    except SystemExit as end:
        assert not end.code, name
    assert not sys.modules.keys() & {set(SLOW)}, name
"""


def test_no_help_waits_for_jax():
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Example:") == len(__main__.COMMANDS)


def test_by_python_s_own_flag_train_says_the_same():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "painterjax.train", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    assert not {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & {*SLOW}
    for said in ("--distributed", "configs/default.py", "--workdir"):
        assert said in done.stdout
    recipes = [path.stem for path in config.recipe_folder().glob("*.py")]
    assert len(recipes) > 5 and all(f"\n  {recipe:20}" in done.stdout for recipe in recipes)


@pytest.mark.parametrize(("argv", "status"), [([], 0), (["--help"], 0), (["trian"], 2)])
def test_without_a_command_all_are_listed(argv, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["painterjax", *argv])
    with pytest.raises(SystemExit, match=str(status)):
        __main__.main()
    out, err = capsys.readouterr()
    assert all(f"  {name:10} {what}" in out + err for name, what in __main__.COMMANDS.items())
    assert bool(err) == bool(status)


def test_a_recipe_is_listed_with_what_it_is_for():
    lines = documentation.with_recipes("usage").splitlines()
    assert "  quickstart          Synthetic painters in minutes." in lines
