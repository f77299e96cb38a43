"""The image: its Dockerfile passes hadolint, and copies what a wheel is built from."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_copies_what_the_wheel_is_built_from_and_nothing_else_is_sent():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = pyproject["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    assert sources == needed | {*wheel["packages"], *wheel["force-include"]}


def test_it_installs_extras_that_exist_and_runs_as_no_root():
    text = DOCKERFILE.read_text()
    extras = {extra for words in re.findall(r"EXTRAS=([\w,]+)", text) for extra in words.split(",")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "cuda" in extras
    assert extras <= project["optional-dependencies"].keys()
    last_stage = text.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\w+)$", last_stage, re.MULTILINE)
    assert user not in ("0", "root")
