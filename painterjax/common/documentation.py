"""The --help of commands whose flags are a recipe's: their docstring, without an import of JAX."""

import ast
import sys
from pathlib import Path

from painterjax.common.config import recipe_folder

BY_DOCSTRING = ("painterjax.train", "painterjax.benchmark")


def help_if_asked(module: str) -> None:
    """Prints the docstring of such a command and exits, where the arguments ask for help."""
    if module in BY_DOCSTRING and is_asked(sys.argv[1:]):
        doc = _docstring(Path(__file__).parents[1] / f"{module.rpartition('.')[2]}.py")
        print(with_recipes(doc))
        sys.exit(0)


def with_recipes(doc: str) -> str:
    """Returns a command's docstring and a line for each shipped recipe."""
    lines = [
        f"  {recipe.stem:20}{_docstring(recipe).partition(chr(10))[0]}"
        for recipe in sorted(recipe_folder().glob("*.py"))
    ]
    keys = f"--config.KEY=value sets a key; all are in {recipe_folder() / 'default.py'}."
    return "\n".join([doc.rstrip(), "", "Recipes:", "", *lines, "", keys])


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def is_asked(argv: list[str]) -> bool:
    """Returns whether the arguments ask for help."""
    return "--help" in argv or "-h" in argv
