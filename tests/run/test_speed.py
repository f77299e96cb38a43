"""The benchmark's figures and command line, and the other side's scripts."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import scaling
from configs import default, painter_by_numbers
from painterjax import benchmark
from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.index import ivf
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
    with pytest.raises(InputError, match=r"5 pools need images with a side divisible by 32"):
        benchmark.main([*argv, "--image-size=48"])
    monkeypatch.setattr(speed, "RANDOM_PAINTINGS", 2**50)
    with pytest.raises(InputError, match="--image-size is 4096: too much for memory"):
        benchmark.main([*argv, "--image-size=4096"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        [
            *("speed", "--image-size=32", "--batch-sizes=1", "--rounds=1", "--seconds=0.2"),
            *("--dtypes", "bfloat16", "--alone"),
        ],
        ["layers", "--image-size=32", "--images=2"],
        ["loading", "--image-size=32", "--seconds=0.3"],
        ["judging", "--paintings=60", "--artists=6", "--dim=8", "--pairs=100"],
    ],
    ids=lambda command: command[0],
)
def test_side_by_side_scripts_run(command, torch, tmp_path):
    name, *options = command
    argv = [
        sys.executable,
        "-m",
        f"benchmarks.{name}",
        *options,
        "--json",
        str(tmp_path / "x.json"),
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["environment"].get("torch", torch.__version__) == torch.__version__


@pytest.mark.slow
def test_a_system_that_fails_is_a_row_and_does_not_stop_the_others(torch):
    """48 pixels do not halve five times: painterjax refuses them, PyTorch cuts the rest off."""
    from benchmarks import speed

    row = speed.compare(48, 1, "float32", [*speed.TURNS][:2], rounds=1, seconds=0.1)
    assert "cannot reshape" in row["painterjax"]["error"]
    assert row["pytorch_eager"]["ms"] > 0 and "ratio_to_pytorch_eager" not in row


def test_systems_that_do_not_fit_together_are_compared_one_after_the_other(torch, monkeypatch):
    from benchmarks import speed

    class System:
        running = 0

        def __init__(self, name: str, *_) -> None:
            self.ms = {"painterjax": 2.0, "pytorch_eager": 3.0, "pytorch_compiled": 4.0}[name]
            System.running += 1

        def take_turn(self) -> float | str:
            return self.ms if System.running == 1 else "out of memory"

        def end(self) -> None:
            System.running -= 1

    monkeypatch.setattr(speed, "System", System)
    together, alone = (
        speed.compare(32, 1, "bfloat16", [*speed.TURNS], rounds=1, seconds=0.1, alone=alone)
        for alone in (False, True)
    )
    assert together["pytorch_eager"] == {"error": "out of memory"}
    assert (alone["ratio_to_pytorch_eager"], alone["ratio_to_pytorch_compiled"]) == (1.5, 2.0)


def test_a_system_whose_process_dies_says_so(torch):
    from benchmarks import speed

    system = speed.System("painterjax", 32, 1, "float32", 0.1)
    system._process.kill()
    assert system.take_turn() == "its process ended with exit code -9"


def test_an_index_that_outgrows_exact_search_is_measured(tmp_path, monkeypatch):
    """`python -m benchmarks.searching` in small, within this process."""
    from benchmarks import searching

    monkeypatch.setattr(ivf, "EXACT", 3000)
    argv = ["--paintings", "9000", "--batch", "2000", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["searching", *argv])
    searching.main()
    figures = json.loads((tmp_path / "x.json").read_text())
    assert figures["add"]["facts"]["trained"] == "4000"
    assert figures["add"]["disk_bytes"] > 2 * 64 * 9000
    recall = {name: f["recall"] for name, f in figures["search"].items() if name != "open_s"}
    assert recall.keys() == {"own", "strangers", *searching.FILTERS}
    assert min(recall.values()) > 0.9
    assert min(recall[name] for name in searching.FILTERS) > 0.99


GPU_PYTHON = """#!/bin/sh
echo "python $@" >>"$RECORD"
exit $STATUS
"""


@pytest.mark.parametrize("status", [0, 1])
def test_a_part_that_fails_does_not_stop_the_measurements_on_a_gpu(status, tmp_path):
    python = tmp_path / "python"
    python.write_text(GPU_PYTHON)
    python.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"),
        "STATUS": str(status), "IMAGE_SIZE": "32", "BATCH_SIZES": "1 2",
    }  # fmt: skip
    script, results = ROOT / "benchmarks" / "gpu.sh", tmp_path / "results"
    command = ["bash", script, results, *(["paintings"] if status else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    called = (tmp_path / "record").read_text().splitlines()
    assert any("benchmarks.scaling --image-size 32 --batch-size 2" in line for line in called)
    if status:
        failed = (results / "failed.txt").read_text().splitlines()
        assert [line for line in failed if line.startswith("python ")] == called
        assert {line.split()[2] for line in called} == {
            *re.findall(r"-m (\S+)", script.read_text())
        }
        assert done.stdout.splitlines() == ["failed:", *failed]
    else:
        assert not list(results.iterdir())


LOCAL = """#!/bin/sh
trap 'sleep 0.5; touch "$0.ended"; exit 130' INT
sleep 0.3
kill -INT $PPID $$
sleep 5
"""


def test_ctrl_c_waits_for_what_launches_the_processes_to_end_them(tmp_path, monkeypatch):
    local = tmp_path / "local.sh"
    local.write_text(LOCAL)
    local.chmod(0o755)
    monkeypatch.setattr(scaling, "LOCAL", local)
    with pytest.raises(KeyboardInterrupt):
        scaling.start(2, [], gpus=0)
    assert (tmp_path / "local.sh.ended").exists()


def test_flags_that_cannot_be_trained_with_say_so(tiny_store, tmp_path, monkeypatch):
    from benchmarks import determinism

    (tmp_path / "store").symlink_to(tiny_store)
    monkeypatch.setattr(determinism, "SETTINGS", {"unknown": "--xla_gpu_unknown=true"})
    argv = ["--output", str(tmp_path), "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["determinism", *argv])
    determinism.main()
    setting = json.loads((tmp_path / "x.json").read_text())["settings"]["unknown"]
    log = tmp_path / "unknown" / "log"
    assert setting["error"] == f"painterjax.train ended with 1, see {log}"
    assert "Unknown flag in XLA_FLAGS: --xla_gpu_unknown" in log.read_text()


@pytest.mark.slow
def test_the_last_states_of_different_trainings_differ(run, tmp_path):
    from benchmarks import determinism, kills

    state = determinism.last_state(run)
    assert kills.differing(state, determinism.last_state(run)) == []
    shutil.copytree(run, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    assert len(kills.differing(state, determinism.last_state(tmp_path / "run"))) > 10


def test_no_step_needs_what_has_no_deterministic_kernel():
    """XLA has none of select-and-scatter for GPUs, the gradient of its own max pool."""
    config = cli.config_and_options(tiny.TINY, doc="", required={})[0]
    training = trainer.build(config, speed.random_split(32))
    with contextlib.closing(training.batches):
        batch = next(training.batches)
    lowered = training.step.lower(*training.arguments(training.state, batch, 1))  # type: ignore
    assert "stablehlo.convolution" in lowered.as_text()
    assert "select_and_scatter" not in lowered.as_text()
