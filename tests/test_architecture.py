"""The layout: imports go one way among folders, commands import no command, all is documented."""

import ast
import collections
import re
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


def _compiles(source: str) -> bool:
    """Whether a file compiles a program by other means than painterjax's own jit."""
    own = "compilation.jit", "painterjax.distributed.compilation.jit"
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return any(re.search(r"\.p?jit$|\.pmap$", name) and name not in own for name in names)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("step = jax.jit(f)", True),
        ("step = functools.partial(jax.pmap, axis_name='x')", True),
        ("@nnx.jit\ndef step(): pass", True),
        ("from jax import jit as compiled", True),
        ("from jax.experimental.pjit import pjit", True),
        ("step = compilation.jit(f)  # not jax.jit", False),
    ],
)
def test_every_way_to_compile_is_seen(source, expected):
    assert _compiles(source) == expected


def test_every_program_is_compiled_with_the_same_options():
    """All but what jax.export lowers, which leaves them to whoever loads it."""
    compiling = {path.name for path in FILES if _compiles(path.read_text(encoding="utf-8"))}
    assert compiling == {"compilation.py", "exported.py"}


def _types(path: Path) -> Iterator[str]:
    """The public classes and type aliases that a file defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [ast.unparse(target) for target in targets]
        else:
            continue
        yield from (
            name for name in names if re.fullmatch(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", name)
        )


def test_a_type_s_name_stands_for_one_thing():
    defined = collections.Counter(name for path in FILES for name in _types(path))
    assert len(defined) > 50
    assert [name for name, count in defined.items() if count > 1] == []


def test_tests_mirror_the_folders():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders == {*FOLDERS, "system"}
