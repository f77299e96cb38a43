"""What all tests share: strict arrays, and where the real paintings are."""

import dataclasses
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

# Commands keep what they compiled: only for as long as the tests run, unless a folder is given.
# JAX looks when it is imported, and pytest-xdist's workers inherit the folder.
CACHE = os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get(
    "JAX_COMPILATION_CACHE_DIR"
) or tempfile.mkdtemp(prefix="painterjax-tests-")
# What was found intact of a store is remembered there as well.
os.environ["XDG_CACHE_HOME"] = str(Path(CACHE) / "home")
# Several processes share a GPU then.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import pytest

from configs import default
from painterjax import prepare
from painterjax.common import process_pool
from painterjax.common.config import Config
from painterjax.data import catalog, store, synthetic
from painterjax.distributed import compilation
from painterjax.model import augment
from tests.helpers import tiny
from tests.helpers.once import made_once

# Shells ignore Ctrl-C for what they start in the background, and nohup a hang-up: so would all that
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Also what compiles in less than a second, which the next worker needs as well.
compilation.keep_on_disk()
# (3,) + (2, 3) is more often a mistake than meant.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_unconfigure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if "painterjax-tests-" in CACHE and not is_worker:
        shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real paintings; the test is skipped where there is none."""
    path = Path(os.environ.get("PAINTERJAX_SHARED", Path(__file__).parents[2] / "shared"))
    if not (path / "paintings" / "images").is_dir():
        pytest.skip(f"no real paintings at {path}: set PAINTERJAX_SHARED to their folder")
    return path


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch; the test is skipped where it is not installed."""
    return pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[compare]'")


@pytest.fixture(scope="session")
def split() -> store.Split:
    """Six synthetic painters with six paintings each, at 32 pixels, in memory."""
    artist_N = np.repeat(np.arange(6, dtype=np.int32), 6)
    image_NxSxSxC = np.stack(
        [synthetic.paint(seed=0, artist=a, painting=p, size=32) for a, p in np.ndindex(6, 6)]
    )
    artists = [synthetic.artist_name(artist) for artist in range(6)]
    paintings = [catalog.Painting(f"{row}", artists[a]) for row, a in enumerate(artist_N)]
    return store.Split("train", image_NxSxSxC, artist_N, artists, paintings)


@pytest.fixture
def config() -> Config:
    """The default recipe without augmentation, with few tuples."""
    config = default.get_config()
    config.batch_size = 4
    config.augmentation = dataclasses.asdict(augment.Augmentation())
    return config


@pytest.fixture
def no_workers(monkeypatch) -> None:
    """Decodes in the test's process, which takes no start of another."""
    monkeypatch.setattr(
        process_pool, "ordered_map", lambda function, items, _: map(function, items)
    )


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> Path:
    def make(path: Path) -> None:
        prepare.main([*tiny.STORE, "--output", str(path)])

    return made_once(tmp_path_factory, "tiny-store", make)


@pytest.fixture(scope="session")
def run(tiny_store, tmp_path_factory) -> Path:
    """An undisturbed run, this worker's own copy."""

    def make(path: Path) -> None:
        done = tiny.train(tiny.argv(tiny_store, path))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert f"run: {path}" in done.stdout
        assert "never seen in training" in done.stdout

    own = tmp_path_factory.mktemp("runs") / "undisturbed"
    shutil.copytree(made_once(tmp_path_factory, "undisturbed", make), own)
    return own
