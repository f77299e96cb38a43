"""The programs of benchmarks/: they run in small, and what fails in them says so."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import listing, scaling
from painterjax.data import images, store, synthetic
from painterjax.index import ivf

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        [
            *("speed", "--image-size=32", "--batch-sizes=1", "--rounds=1", "--seconds=0.2"),
            *("--dtypes", "bfloat16", "--alone"),
        ],
        ["layers", "--image-size=32", "--images=2"],
        ["verifying", "--gigabytes=0.02"],
        ["judging", "--paintings=60", "--artists=6", "--dim=8", "--pairs=100", "--largest=200"],
    ],
    ids=lambda command: command[0],
)
def test_side_by_side_scripts_run(command, torch, tmp_path, monkeypatch):
    """Within this process: to import PyTorch and JAX once more takes longer than most of them."""
    name, *options = command
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if name == "verifying":
        options += ["--output", str(tmp_path / "verifying")]
    monkeypatch.setattr(sys, "argv", [name, *options, "--json", str(tmp_path / "x.json")])
    importlib.import_module(f"benchmarks.{name}").main()
    torch.set_flush_denormal(False)  # As it was before.
    _assert_of(torch, tmp_path / "x.json")


@pytest.mark.slow
def test_rows_are_listed_split_written_and_opened(tmp_path, monkeypatch):
    argv = ["listing", "--output", str(tmp_path), "--rows=2003", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", argv)
    listing.main()
    found = json.loads((tmp_path / "x.json").read_text())
    for of in (*found["csv"].values(), *found["parquet"].values(), found["open"]):
        assert of["s"] > 0 and of["peak_bytes"] > 1e8
    splits = store.open_store(tmp_path / "store").splits.values()
    assert 1990 < sum(map(len, splits)) <= 2003  # But for artists with one painting.


@pytest.mark.slow
def test_loading_side_by_side_runs(torch, tmp_path):
    """In a process of its own, as PyTorch's DataLoader forks."""
    argv = ["--image-size=32", "--seconds=0.3", "--json", str(tmp_path / "x.json")]
    command = [sys.executable, "-m", "benchmarks.loading", *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    _assert_of(torch, tmp_path / "x.json")


def _assert_of(torch: Any, result: Path) -> None:
    environment = json.loads(result.read_text())["environment"]
    assert environment.get("torch", torch.__version__) == torch.__version__


@pytest.mark.slow
def test_a_batch_larger_than_the_memory_is_measured(tmp_path):
    argv = ["--images=32", "--chunk=16", "--image-size=32", "--backbone=conv_blocks"]
    argv += ["--json", str(tmp_path / "x.json")]
    command = [sys.executable, "-m", "benchmarks.batches", *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    cases = [(row["images"], row["remat"]) for row in rows]
    assert cases == [(16, False), (16, True), (32, False), (32, True)]
    assert all(row["step_s"] > 0 and row["memory_bytes"] > 1e8 for row in rows)


@pytest.mark.slow
def test_many_small_images_are_prepared(tmp_path):
    command = [sys.executable, "-m", "benchmarks.preparing", "--output", str(tmp_path)]
    command += ["--images", "150", "450", "--json", str(tmp_path / "x.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [row["images"] for row in rows] == [150, 450]
    assert all(row["s"] > 0 and row["peak_bytes"] > 10**7 for row in rows)
    assert len(store.open_store(tmp_path / "store-450").splits["train"]) > 100


@pytest.mark.slow
def test_near_duplicates_are_counted(tmp_path):
    for artist, number in np.ndindex(2, 3):
        path = tmp_path / "paintings" / str(artist) / f"title-{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = synthetic.paint(seed=0, artist=artist, painting=number, size=128)
        Image.fromarray(pixels).save(path)
    command = [sys.executable, "-m", "benchmarks.near_duplicates", "--every", "2"]
    command += ["--images", str(tmp_path / "paintings"), "--collections", "50"]
    command += ["--json", str(tmp_path / "x.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    figures = json.loads((tmp_path / "x.json").read_text())
    within_limit = figures["distances"].index(figures["limit"]["distance"])
    assert figures["found"]["JPEG, quality 50"]["found"][within_limit] == 1
    assert figures["different_pairs"]["found"][within_limit] == 0
    titles = {"files": 6, "titles": 2, "pairs": 6, "one_picture": 0}
    assert figures["same_artist_and_title"] == titles


@pytest.mark.slow
def test_a_system_that_fails_is_a_row_and_does_not_stop_the_others(torch):
    """48 pixels do not halve five times: painterjax refuses them, PyTorch cuts the rest off."""
    from benchmarks import speed

    row = speed.compare(
        speed.Task("reference", 48, 1, "float32"), [*speed.TURNS][:2], rounds=1, seconds=0.1
    )
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

        answer = take_turn

        def end(self) -> None:
            System.running -= 1

    monkeypatch.setattr(speed, "System", System)
    task = speed.Task("reference", 32, 1, "bfloat16")
    together, alone = (
        speed.compare(task, [*speed.TURNS], rounds=1, seconds=0.1, alone=alone)
        for alone in (False, True)
    )
    assert together["pytorch_eager"] == {"error": "out of memory"}
    assert (alone["ratio_to_pytorch_eager"], alone["ratio_to_pytorch_compiled"]) == (1.5, 2.0)


def test_a_system_whose_process_dies_says_so(torch):
    from benchmarks import speed

    system = speed.System("painterjax", speed.Task("reference", 32, 1, "float32"), 0.1)
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
    assert 0 < figures["add_one"]["of_new_folder_s"] < figures["add"]["longest_s"]
    recall = {name: f["recall"] for name, f in figures["search"].items() if name != "open_s"}
    assert recall.keys() == {"own", "strangers", *searching.FILTERS}
    assert min(recall.values()) > 0.9
    assert min(recall[name] for name in searching.FILTERS) > 0.99


@pytest.mark.slow
def test_ways_to_attribute_are_compared(run, tmp_path, monkeypatch):
    """`python -m benchmarks.attribution` in small, within this process."""
    from benchmarks import attribution

    argv = ["--run", str(run), "--draws", "2", "--json", str(tmp_path / "x.json")]
    argv += ["--plot", str(tmp_path / "x.svg")]
    monkeypatch.setattr(sys, "argv", ["attribution", *argv])
    attribution.main()
    assert "share of right answers" in (tmp_path / "x.svg").read_text()
    methods = json.loads((tmp_path / "x.json").read_text())["methods"]
    assert {"plda", "prototypes", "kernel_density"} <= methods.keys()
    for figures in methods.values():
        assert all(0 <= figures[name] <= 1 for name in attribution.FIGURES if name != "log_loss")
        assert sum(each["weight"] for each in figures["bins"]) == pytest.approx(1)


@pytest.mark.slow
def test_ways_to_embed_wide_paintings_are_compared(run, tmp_path, monkeypatch):
    """`python -m benchmarks.wide` in small, within this process."""
    from benchmarks import wide

    argv = ["--run", str(run), "--ratios", "2", "--json", str(tmp_path / "x.json")]
    monkeypatch.setattr(sys, "argv", ["wide", *argv])
    monkeypatch.setattr(images, "MIN_SIDE", 16)  # Bands of 32 pixels are as high.
    wide.main()
    (row,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert (row["ratio"], row["squares"]) == (2.0, 3)
    assert row["median_distance_of_ends"] > 0
    emb_NxKxD = np.random.default_rng(0).normal(size=(12, 3, 8))
    artist_N = np.repeat(np.arange(4), 3)
    found = wide.judge(emb_NxKxD, artist_N)["ways"]["center among mean"]
    unit_NxKxD = emb_NxKxD / np.linalg.norm(emb_NxKxD, axis=2, keepdims=True)
    hits = 0
    for row, center_D in enumerate(unit_NxKxD[:, 1]):
        mean_NxD = unit_NxKxD.mean(1)
        mean_NxD /= np.linalg.norm(mean_NxD, axis=1, keepdims=True)
        cosine_N = [mean_D @ center_D if i != row else -9 for i, mean_D in enumerate(mean_NxD)]
        hits += artist_N[np.argmax(cosine_N)] == artist_N[row]
    assert found["recall_at_1"] == pytest.approx(hits / 12)


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
