"""docs/promises.md: every test it names exists, and its figures are the commands'."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"


def test_every_promise_names_tests_that_exist():
    rows = re.findall(r"^\| (.+) \| (.+) \| (.*) \|$", PROMISES, re.MULTILINE)
    rows = [row for row in rows if not row[0].startswith(("promise", "---"))]
    assert len(rows) > 10
    for promise, tests, figure in rows:
        assert figure, promise
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
        assert named, promise
        for file, test in named:
            (path,) = (ROOT / "tests").rglob(file)
            tree = ast.parse(path.read_text(encoding="utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert test in functions, f"{file}::{test}"


def _kills() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / "kills.jsonl").read_text().splitlines()]


def _figures() -> Iterator[str]:
    for command in ("train", "prepare"):
        lines = [line for line in _kills() if line["command"] == command]
        kills = sum("kill" in line for line in lines)
        differences = sum(len(line.get("differences", [])) for line in lines)
        ends = sum("ended" in line for line in lines)
        told = sum(line.get("by") == "SIGTERM" for line in lines)
        by = f", {told} of them by SIGTERM" if told else ""
        what = "trainings" if command == "train" else "stores"
        yield f"{kills} kills{by}, {ends} {what} ended, {differences} differences"
    slowest = max(line.get("stop_s", 0) for line in _kills())
    yield f"{slowest:.1f} s at most, beside other work"
    memory = json.loads((RESULTS / "memory.json").read_text())
    yield f"{100 * memory['growth']:+.1f} % in {memory['steps']:,} steps"
    malformed = json.loads((RESULTS / "malformed.json").read_text())
    for kind in ("images", "tables", "stores", "configs", "runs"):
        row = malformed[kind]
        peak_gb = row["peak_bytes"]["value"] / 1e9
        yield (
            f"{row['cases']:,} cases, {sum(row['failures'].values())} failures,"
            f" {row['longest_s']['value']:.2f} s and {peak_gb:.1f} GB at most"
        )
    page = malformed["page"]
    left = f"{page['threads']} threads and {page['files']} files left"
    yield f"{page['answers']:,} answers in a minute, {left}"


def test_every_figure_is_what_the_commands_wrote():
    for figure in _figures():
        assert f"| {figure} |" in PROMISES, f"promises.md is to say: {figure}"


def test_the_lowest_versions_were_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, _, *installed, ended = (RESULTS / "bounds-lowest-direct.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in installed)
    for requirement in map(Requirement, project["dependencies"]):
        bounds = {bound.operator: bound.version for bound in requirement.specifier}
        assert bounds.keys() == {">=", "<"}, requirement
        assert Version(versions[requirement.name.lower()]) == Version(bounds[">="]), requirement
    assert "failed" not in ended and "error" not in ended
    passed = re.match(r"(\d+) passed", ended)
    assert passed and f"| {passed[1]} tests on {python} |" in PROMISES, ended
