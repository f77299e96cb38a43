"""A training by two processes, which every launcher must repeat."""

import subprocess
from pathlib import Path

import pytest

from tests.helpers import tiny
from tests.helpers.once import made_once


@pytest.fixture(scope="session")
def run_of_two(tiny_store, tmp_path_factory) -> Path:
    """A run by launch/local.sh; beside it is `said`, what each process said after its number."""

    def make(folder: Path) -> None:
        folder.mkdir()
        command = [
            tiny.ROOT / "launch" / "local.sh",
            "2",
            *tiny.together(tiny_store, folder / "run"),
        ]
        with open(folder / "said", "w") as said:
            status = subprocess.run(
                command, cwd=tiny.ROOT, env={**tiny.TWO_DEVICES, "JAX_LOG_COMPILES": "1"},
                stdout=said, stderr=said, check=False,
            ).returncode  # fmt: skip
        assert status == 0, (folder / "said").read_text()

    return made_once(tmp_path_factory, "run-of-two", make) / "run"
