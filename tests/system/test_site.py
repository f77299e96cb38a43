"""The documentation as a site: whole, with every public name, and nothing from other servers."""

import ast
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tiny import ROOT

pytestmark = pytest.mark.slow
PACKAGE = ROOT / "painterjax"
# What a browser fetches by itself.
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, which the builder warned of nothing in."""
    pytest.importorskip("mkdocs", reason="needs mkdocs: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("docs") / "site"
    build = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, *build], cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def _public(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """The dotted names of public functions and classes, and of the methods of the latter."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}.{node.name}")


def test_every_public_function_and_class_is_in_the_api(site):
    compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    listed = {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}
    expected = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        expected |= {module, *_public(ast.parse(path.read_text(encoding="utf-8")).body, module)}
    assert {"painterjax.load", "painterjax.run.style.StyleEmbedder.embed"} <= expected
    assert expected - listed == set()


def test_the_site_fetches_nothing_from_other_servers(site):
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    assert len(pages) > 100
    assert [found[0] for page in pages if (found := FETCHED.search(page))] == []
    styles = [style.read_text(encoding="utf-8") for style in site.rglob("*.css")]
    assert styles
    assert not [
        style for style in styles if re.search(r"(url\(|@import\s)[\"']?(https?:)?//", style)
    ]


def test_a_link_out_of_the_docs_leads_to_a_page_of_the_site(site):
    page = (site / "architecture.html").read_text(encoding="utf-8")
    for target in ("api/data/sampling.py.html", "source/configs/default.py.html"):
        assert f'href="{target}"' in page
        assert (site / target).is_file()
    assert "paintings_per_artist" in (site / "source/configs/default.py.html").read_text()
