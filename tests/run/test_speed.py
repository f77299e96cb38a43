"""The benchmark's figures and command line."""

import contextlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import default, painter_by_numbers
from painterjax import benchmark
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.run import speed
from painterjax.training import trainer
from tests.helpers import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    """What the command writes, with its trace beside it; its table was printed."""
    folder = tmp_path_factory.mktemp("benchmark")
    argv = ["--config=configs/painter_by_numbers.py", "--image-size=32", "--config.batch_size=2"]
    argv += ["--config.model.embedding_dim=32", "--config.model.depths=(1, 1, 1, 1, 1)"]
    argv += ["--config.steps_per_dispatch=2"]
    options = [f"--json={folder}/figures.json", f"--profile={folder}/trace"]
    benchmark.main([*argv, *options])
    return {"trace": folder / "trace", **json.loads((folder / "figures.json").read_text())}


@pytest.mark.slow
def test_every_stage_is_measured(figures):
    for stage in ("step", "sampling", "pipeline", "loop"):
        ms = figures[stage]["ms"]
        assert 0 < ms["p10"] <= ms["median"] <= ms["p90"]
        assert figures[stage]["images_per_s"] == pytest.approx(6000 / ms["mean"])
        assert figures[stage]["tuples_per_s"] == pytest.approx(2000 / ms["mean"])
    assert figures["sampling"]["ms"]["median"] < figures["step"]["ms"]["median"]
    for key in (
        "compile_s",
        "cached_compile_s",
        "dispatch_ms",
        "checkpoint_hold_ms",
        "memory_bytes",
    ):
        assert figures[key] > 0
    assert figures["cached_compile_s"] < figures["compile_s"]
    assert figures["environment"]["packages"]["jax"] == jax.__version__


@pytest.mark.slow
def test_the_trace_opens_in_perfetto_and_tensorboard(figures):
    names = {path.name for path in figures["trace"].rglob("*")}
    assert "perfetto_trace.json.gz" in names
    assert any(name.endswith(".xplane.pb") for name in names)


@pytest.mark.slow
def test_flop_are_the_compiler_s(figures):
    """Counted are convolutions and the matrix product; the compiler counts all but padding."""
    flop = figures["flop"]
    assert flop["counted_per_image"] == pytest.approx(flop["compiler_per_image"], rel=0.35)
    per_s = flop["counted_per_image"] * figures["step"]["images_per_s"]
    assert flop["per_s"] == pytest.approx(per_s)


def test_the_reference_takes_1_7_gmac():
    """As its recipe says of one forward pass of one image of 256 pixels."""
    forward, first = speed.forward_flop(painter_by_numbers.get_config(), image_size=256)
    assert forward / 2 == pytest.approx(1.7e9, rel=0.03)
    assert first == 2 * 27 * 16 * 256**2


@pytest.mark.slow
def test_the_loop_does_not_wait_for_data(figures):
    """The machine may be busy, and a step takes a few milliseconds: a loose bound."""
    assert figures["loop"]["data_wait_ms"] < 0.2 * figures["loop"]["ms"]["median"]


def test_random_images_serve_every_loss():
    split = speed.random_split(32)
    assert len(split.artists) >= default.get_config().batch_size
    assert np.bincount(split.artist_N).min() >= default.get_config().loss.paintings_per_artist


def test_wrong_usage_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    argv = ["--config=configs/quickstart.py"]
    with pytest.raises(InputError, match=r"--json is 'nowhere/x\.json': its folder does not exist"):
        benchmark.main([*argv, "--json=nowhere/x.json"])
    with pytest.raises(InputError, match="--image-size is 'large': must be a whole number"):
        benchmark.main([*argv, "--image-size=large"])
    for size in ("0", "4097", "100000000", "9" * 5000):
        with pytest.raises(InputError, match=f"--image-size is '{size}': .* pixels, 1 to 4096"):
            benchmark.main([*argv, f"--image-size={size}"])
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"--profile is '{path}': no folder"):
            benchmark.main([*argv, f"--profile={path}"])
    with pytest.raises(InputError, match=r"needs images with a side divisible by 32"):
        benchmark.main([*argv, "--image-size=48"])
    monkeypatch.setattr(speed, "RANDOM_PAINTINGS", 2**50)
    with pytest.raises(InputError, match="--image-size is 4096: too much for memory"):
        benchmark.main([*argv, "--image-size=4096"])


def test_no_step_needs_what_has_no_deterministic_kernel():
    """XLA has none of select-and-scatter for GPUs, the gradient of its own max pool."""
    config = cli.config_and_options(tiny.TINY, doc="", required={})[0]
    training = trainer.build(config, speed.random_split(32))
    with contextlib.closing(training.batches):
        batch = next(training.batches)
    lowered = training.step.lower(*training.arguments(training.state, batch, 1))  # type: ignore
    assert "stablehlo.convolution" in lowered.as_text()
    assert "select_and_scatter" not in lowered.as_text()
