"""What mkdocs.yml adds to the pages of this folder: README and the like, the API, and linked files.

Links between files work on GitHub as they stand; here they are turned towards the site's pages.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "painterjax"
TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# Up to the blank line that ends it.
DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\()(?!https?:|#)([^)#]+)")


class Doctests(griffe.Extension):
    """Shows the examples of docstrings as code; Markdown would take them for quotations."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere, and one for each module and for each linked file."""
    texts = {page: _read(ROOT / name) for name, page in TOP.items()}
    texts |= {_site_path(module): _api(module) for module in sorted(PACKAGE.rglob("*.py"))}
    sources = [path for path in _linked() if _site_path(path).startswith("source/")]
    texts |= {_site_path(path): _source(path) for path in sources}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the links to files of this repository towards their pages on the site."""
    at = PurePosixPath(page.file.src_uri)
    origins = {there: ROOT / name for name, there in TOP.items()}
    source = origins.get(str(at), DOCS / at)

    def turned(link: re.Match[str]) -> str:
        target = _site_path((source.parent / link[2]).resolve())
        return link[1] + os.path.relpath(target, at.parent)

    return LINK.sub(turned, markdown) if source.exists() else markdown


def _linked() -> Iterator[Path]:
    """The files and folders that pages link to."""
    for page in (*(ROOT / name for name in TOP), *DOCS.glob("*.md")):
        for link in LINK.finditer(_read(page)):
            yield (page.parent / link[2]).resolve()


def _site_path(path: Path) -> str:
    """Where the site has a file or a folder of this repository."""
    inside = path.relative_to(ROOT)
    if str(inside) in TOP:
        return TOP[str(inside)]
    if path.is_file() and path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    module = path / "__init__.py" if (path / "__init__.py").exists() else path
    if module.is_relative_to(PACKAGE) and module.suffix == ".py":
        page = module.relative_to(PACKAGE)
        return f"api/{page.with_name('index') if page.stem == '__init__' else page}.md"
    return f"source/{inside.as_posix().lstrip('.')}{'/index' if path.is_dir() else ''}.md"


def _api(module: Path) -> str:
    """A module's page; that of a folder lists its modules."""
    parts = module.relative_to(ROOT).with_suffix("").parts
    if parts[-1] != "__init__":
        return f"---\ntitle: {module.name}\n---\n\n::: {'.'.join(parts)}\n"
    inside = sorted({*module.parent.glob("[!_]*.py"), *module.parent.glob("*/__init__.py")})
    lines = [f"---\ntitle: {module.parent.name}\n---\n\n::: {'.'.join(parts[:-1])}\n"]
    for each in inside:
        path = os.path.relpath(_site_path(each), PurePosixPath(_site_path(module)).parent)
        name = each.parent.name if each.name == "__init__.py" else each.stem
        lines.append(f"- [`{name}`]({path}): {_first_line(each)}")
    return "\n".join(lines) + "\n"


def _first_line(module: Path) -> str:
    return (ast.get_docstring(ast.parse(_read(module))) or "").partition("\n")[0]


def _source(path: Path) -> str:
    """A page that shows a file, or names the files of a folder."""
    title = f"# {path.relative_to(ROOT)}\n\n"
    if path.is_dir():
        return title + "\n".join(f"- `{each.name}`" for each in sorted(path.glob("[!_]*"))) + "\n"
    return f"{title}````{path.suffix.removeprefix('.')}\n{_read(path)}\n````\n"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
