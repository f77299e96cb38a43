"""docs/guarantees.md: every point names one or two tests, and these exist."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_every_guarantee_names_tests_that_exist():
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    points = re.findall(r"^- (.+\n(?:  .+\n)*)", text, re.MULTILINE)
    assert len(points) > 80
    named = [re.findall(r"`(test_\w+\.py)::(test_\w+)`", point) for point in points]
    assert [p for p, tests in zip(points, named, strict=True) if len(tests) not in (1, 2)] == []
    existing = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        existing |= {(path.name, node.name) for node in nodes if isinstance(node, ast.FunctionDef)}
    assert {test for tests in named for test in tests} - existing == set()


@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
def test_both_bounds_were_tested(resolution):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = (ROOT / "docs" / "results" / f"bounds-{resolution}.txt").read_text().splitlines()
    python, commit, *installed, ended = listed
    assert Version(python.removeprefix("Python ")) in SpecifierSet(project["requires-python"])
    assert re.search(r"[0-9a-f]{40}$", commit)  # Behind the hash of a changed clone is a "+".
    versions = dict(line.split("==") for line in installed)
    for requirement in map(Requirement, project["dependencies"]):
        bounds = {bound.operator: bound.version for bound in requirement.specifier}
        assert bounds.keys() == {">=", "<"}, requirement
        version = versions[requirement.name.lower()]
        assert version in requirement.specifier, requirement
        if resolution == "lowest-direct":
            assert Version(version) == Version(bounds[">="]), requirement
    assert "failed" not in ended and "error" not in ended
    assert re.match(r"\d+ passed", ended)
