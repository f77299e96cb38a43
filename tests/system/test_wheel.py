"""The wheel has all that an installed painterjax needs."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.tiny import ROOT

pytestmark = pytest.mark.slow
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The unpacked wheel, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    has_hatchling = importlib.util.find_spec("hatchling") is not None
    if not has_hatchling and _run([*PIP, "download", "--no-deps", "hatchling"], folder).returncode:
        pytest.skip("needs hatchling, or a package index to fetch it from")
    flags = ["--no-build-isolation"] if has_hatchling else []
    built = _run([*PIP, "wheel", "--no-deps", *flags, "--wheel-dir", "built", str(ROOT)], folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "built").glob("painterjax-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def _run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=300
    )


def test_the_wheel_has_every_file_of_the_package_and_the_recipes(installed):
    files = {
        path.relative_to(ROOT)
        for folder in ("painterjax", "configs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {Path("painterjax/pages/static/index.html"), Path("configs/quickstart.py")} <= files
    for path in files:
        inside = path if path.parts[0] == "painterjax" else Path("painterjax") / path
        assert (installed / inside).read_bytes() == (ROOT / path).read_bytes(), path


MODULE, SCRIPT = ["-m", "painterjax"], ["bin/painterjax"]
SHIPPED, OWN = "no store at nowhere: make one with", "ValueError: the base at hand"


@pytest.mark.parametrize(
    ("command", "recipe", "at_hand", "said"),
    [
        (MODULE, "quickstart", ["default"], SHIPPED),
        (MODULE, "quickstart", ["default", "__init__"], SHIPPED),
        (MODULE, "own.py", ["default"], OWN),
        (SCRIPT, "own.py", ["default"], OWN),
        (SCRIPT, "own.py", [], SHIPPED),
    ],
)
def test_a_shipped_recipe_has_the_shipped_base_and_another_the_one_at_hand(
    command, recipe, at_hand, said, installed, tmp_path
):
    for name in ("bin", "configs"):
        (tmp_path / name).mkdir()
    (tmp_path / SCRIPT[0]).write_text("from painterjax import __main__\n__main__.main()\n")
    (tmp_path / "own.py").write_text("from configs.default import get_config\n")
    for name in at_hand:
        text = 'raise ValueError("the base at hand")' if name == "default" else ""
        (tmp_path / "configs" / f"{name}.py").write_text(text)
    argv = ["train", "--config", recipe, "--workdir", "r", "--config.data.store=nowhere"]
    done = _run([sys.executable, *command, *argv], tmp_path, PYTHONPATH=str(installed))
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_recipe_in_any_folder_imports_shipped_ones_and_those_beside_it(installed, tmp_path):
    folder = tmp_path / "mine" / "configs"
    folder.mkdir(parents=True)
    (folder / "beside.py").write_text("STORE = 'of one beside it'")
    (folder / "own.py").write_text(
        "from configs import beside, pretrained\n"
        "def get_config():\n"
        "    config = pretrained.get_config()\n"
        "    config.data.store = beside.STORE\n"
        "    return config\n"
    )
    argv = ["-m", "painterjax", "train", "--config", "mine/configs/own.py", "--workdir", "r"]
    done = _run([sys.executable, *argv], tmp_path, PYTHONPATH=str(installed))
    assert "no store at of one beside it: make one with" in done.stderr, done.stderr


def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    find = "from painterjax.common import config; print(config.find_recipe('quickstart'))"
    found = _run([sys.executable, "-c", find], tmp_path, PYTHONPATH=str(installed))
    assert found.stdout.strip() == str(installed / "painterjax" / "configs" / "quickstart.py")
    command = [sys.executable, "-m", "painterjax", "train", "--help"]
    helped = _run(command, tmp_path, PYTHONPATH=str(installed))
    assert (helped.returncode, "--workdir" in helped.stdout) == (0, True), helped.stderr
