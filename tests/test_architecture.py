"""The layout: imports go one way among folders, commands import no command, all is documented."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from painterjax.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "painterjax"
FILES = sorted(PACKAGE.rglob("*.py"))
# A folder imports only from folders to the left of it.
FOLDERS = (
    "common", "distributed", "data", "metrics", "losses", "model", "training", "run", "index",
    "pages",
)  # fmt: skip
UNRELATED = ("metrics", "losses", "model")  # None of these imports another.


def _imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, as dotted names below painterjax."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            head, _, rest = node.module.partition(".")
            if head == "painterjax":
                names = (alias.name for alias in node.names)
                yield from (".".join(filter(None, (rest, name))) for name in names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (n.partition(".")[2] for n in names if n.partition(".")[0] == "painterjax")


def test_the_package_is_its_commands_and_ten_folders():
    names = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    commands = {f"{command}.py" for command in COMMANDS}
    assert names == {"__init__.py", "__main__.py", *commands, *FOLDERS}
    assert len(FILES) > 60


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_those_to_its_left(folder):
    allowed = {*FOLDERS[: FOLDERS.index(folder) + 1]}
    if folder in UNRELATED:
        allowed -= {*UNRELATED} - {folder}
    files = sorted((PACKAGE / folder).glob("*.py"))
    assert len(files) > 3
    for path in files:
        assert {name.partition(".")[0] for name in _imported(path)} <= allowed, path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_no_command(command):
    imported = {name.partition(".")[0] for name in _imported(PACKAGE / f"{command}.py")}
    assert imported and imported <= {*FOLDERS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_what_it_holds(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_every_program_is_compiled_with_the_same_options():
    """All but what jax.export lowers, which leaves them to whoever loads it."""
    compiling = [path for path in FILES if "jax.jit" in path.read_text(encoding="utf-8")]
    assert {path.name for path in compiling} == {"compilation.py", "exported.py"}


def test_tests_mirror_the_folders():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders == {*FOLDERS, "system"}
