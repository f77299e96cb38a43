"""The comparison of recipes: the reference in PyTorch, scratch.py, and its experiments."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from benchmarks import experiments, learning, tables
from painterjax import prepare
from painterjax.data import splits, store, synthetic

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = [
    "--config.batch_size=8",
    "--config.model.widths=(8, 8)",
    "--config.model.depths=(1, 1)",
    "--config.eval.triplets=100",
    "--config.num_epochs=2",  # The last of two equal options wins.
]


@pytest.fixture(scope="module")
def compared(torch, tmp_path_factory) -> Path:
    """What benchmarks.learning leaves behind on few and small paintings."""
    folder = tmp_path_factory.mktemp("learning")
    for artist, painting in np.ndindex(16, 20):
        path = folder / "paintings" / f"Artist {artist}" / f"{painting}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthetic.paint(seed=0, artist=artist, painting=painting, size=32)).save(
            path
        )
    argv = ["--images", folder / "paintings", "--data", folder, "--seeds", 1, "--minutes", 0.01,
            "--json", folder / "learning.json", *SMALL]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "run", _run_here)
        _run_here("benchmarks.learning", *map(str, argv))
    torch.set_flush_denormal(False)  # As it was before.
    return folder


def _run_here(module: str, *arguments: str, **_: str) -> None:
    """Runs a command line within this process: a start takes seconds, and compiling anew more."""
    main = importlib.import_module(module).main
    if module.startswith("painterjax."):
        main([*arguments])
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module, *arguments])
            main()


def _run(module: str, *arguments: object) -> None:
    argv = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_all_systems_are_judged_on_the_same_artists(compared):
    result = json.loads((compared / "learning.json").read_text())
    (row,) = result["seeds"]
    systems = {name: row[name] for name in learning.SYSTEMS}
    stores = [store.open_store(compared / f"holdout-{size}-1") for size in (64, 80)]
    held_out = [
        a
        for a in sorted(p.name for p in (compared / "paintings").iterdir())
        if splits.is_held_out(a)
    ]
    assert [each.splits["test"].artists for each in stores] == [held_out] * 2
    test = stores[0].splits["test"]
    for name, system in systems.items():
        assert all(0 < of["roc_auc"]["value"] < 1 for of in (system, system["untrained"]))
        assert (system["paintings"], system["artists"]) == (len(test), len(test.artists))
        assert 0 < system["minutes_of_training"] < system["minutes"]
        pixels = (64, 64) if name == "reference" else (64, 80)
        assert (system["pixels_trained"], system["pixels_judged"]) == pixels
        assert result["mean"][name]["roc_auc"] == system["roc_auc"]["value"]
        assert result["mean"][name]["epochs"] == system["epochs"]
    assert 0.01 < row["reference"]["minutes_of_training"] < 1  # A step more than was asked for.
    assert {systems[name]["epochs"] for name in learning.SYSTEMS[1:]} == {2}
    # Both trainers of scratch.py start from the same network, which rounds otherwise.
    theirs, ours = (row[name]["untrained"] for name in learning.SYSTEMS[1:3])
    assert theirs["map_at_r"]["value"] == pytest.approx(ours["map_at_r"]["value"], rel=1e-3)
    assert theirs["recall_at_10"]["value"] == pytest.approx(ours["recall_at_10"]["value"], abs=0.05)


def test_the_table_says_what_differs(compared, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", compared)
    (compared / "learning.json").write_bytes((compared / "learning.json").read_bytes())
    reference, theirs, ours, fifth, histogram = tables.learning()
    assert (reference[1], theirs[1], ours[1]) == ("PyTorch", "PyTorch", "painterjax")
    assert (reference[2], theirs[2]) == ("64, 64", "64, 80")
    assert theirs[3] == ours[3] == "2.0 of 24"
    assert len({len(cells) for cells in (reference, theirs, ours, fifth, histogram)}) == 1
    assert all(map(all, (reference, theirs, ours, fifth)))


def test_no_training_begins_with_what_another_compiled(tmp_path, monkeypatch):
    def train(command, *, env, check):
        step = Path(env["JAX_COMPILATION_CACHE_DIR"], "step")
        assert not any(step.parent.iterdir())
        step.touch()
        workdir = Path(command[command.index("--workdir") + 1])
        workdir.mkdir()
        (workdir / "config.json").write_text('{"num_epochs": 1, "augmentation": {"crop": 64}}')
        record = {"step": 4, "epoch": 1, "split": "train", "step_ms": 1500}
        (workdir / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        (workdir / "evaluation.json").write_text('{"test": {}}')

    monkeypatch.setattr(subprocess, "run", train)
    for name in ("scratch", "scratch-fifth"):
        trained = learning.train(tmp_path / "store", tmp_path / name, [], seed=0, epochs=1)
        assert (trained["epochs"], trained["minutes_of_training"]) == (1, 0.1)


class Sized(NamedTuple):
    """Of a store the size of its images, and whether it may be chosen on."""

    image_size: int
    info: Mapping[str, bool] = MappingProxyType({"without_holdout": True})


@pytest.mark.parametrize("script", [learning, experiments], ids=["learning", "experiments"])
@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ("--config.batch_sice=8", "unknown key batch_sice: did you mean batch_size"),
        ("--config.batch_size=0", "batch_size is 0"),
        ("--json=none/x.json", "--json is 'none/x.json': its folder does not exist"),
        ("--data={}/runs", "runs/(scratch-1|short) exists: remove it, or name another --data"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_starts(
    script, mistake, reason, tmp_path, monkeypatch, capsys
):
    for name in ("short", "scratch-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    monkeypatch.setattr(experiments, "open_store", lambda _: Sized(80))
    argv = [f"--data={tmp_path}", f"--json={tmp_path}/x.json", mistake.format(tmp_path)]
    argv += ["--images=none"] if script is learning else ["--store=none"]
    assert re.search(reason, _refusal(script, argv, monkeypatch, capsys))


def test_what_pytorch_does_not_mirror_is_refused(tmp_path, monkeypatch, capsys):
    argv = [f"--data={tmp_path}", f"--json={tmp_path}/x.json", "--images=none"]
    refusal = _refusal(learning, [*argv, "--config.loss.margin=0.2"], monkeypatch, capsys)
    assert "loss.margin is 0.2, but in PyTorch it is 0.0" in refusal


def _refusal(script: ModuleType, argv: list[str], monkeypatch, capsys) -> str:
    """The last line that a script ends with when nothing has started."""
    monkeypatch.setattr(sys, "argv", [script.__name__, *argv])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something started"))
    with pytest.raises(SystemExit, match="2"):
        script.main()
    return capsys.readouterr().err.splitlines()[-1]


def test_experiments_take_the_store_that_they_are_for(tmp_path, monkeypatch, capsys):
    argv = ["--store=none", f"--data={tmp_path}", f"--json={tmp_path}/x.json"]
    monkeypatch.setattr(experiments, "open_store", lambda _: Sized(80))
    refusal = _refusal(experiments, [*argv, "--names", "short", "whole"], monkeypatch, capsys)
    assert refusal.endswith("--store has images of 80 pixels: whole needs 64")
    monkeypatch.setattr(experiments, "open_store", lambda _: Sized(256))
    refusal = _refusal(experiments, argv, monkeypatch, capsys)
    assert refusal.endswith("--store has images of 256 pixels: short needs 80")
    monkeypatch.setattr(experiments, "open_store", lambda _: Sized(80, {}))
    refusal = _refusal(experiments, argv, monkeypatch, capsys)
    assert refusal.endswith("--store none was not prepared --without-holdout: do that")
    run = []
    monkeypatch.setattr(experiments, "run", lambda name, *_: run.append(name))
    for size, whole in ((80, False), (64, True)):
        run.clear()
        monkeypatch.setattr(experiments, "open_store", lambda _, size=size: Sized(size))
        monkeypatch.setattr(sys, "argv", ["experiments", *argv])
        experiments.main()
        assert run == [name for name in experiments.EXPERIMENTS if ("whole" in name) == whole]


def test_what_was_tried_is_what_the_command_tries():
    lines = (ROOT / "docs" / "results" / "experiments.jsonl").read_text().splitlines()
    assert lines
    for line in map(json.loads, lines):
        assert line["changed"] == json.loads(json.dumps(experiments.EXPERIMENTS[line["name"]]))
        figures = line["artists_never_seen"]
        row = f"| `{line['name']}` | {figures['roc_auc']:.3f} | {figures['recall_at_1']:.3f} |"
        assert row in (ROOT / "docs" / "performance.md").read_text()


def test_an_experiment_is_a_line_of_json(compared):
    lines = compared / "experiments.jsonl"
    prepare.main(["folder", "--input", str(compared / "paintings"), "--image-size", "80",
                  "--without-holdout", "--output", str(compared / "choosing")])  # fmt: skip
    _run("experiments", "--names", "short", "--store", compared / "choosing",
         "--data", compared / "runs", "--json", lines, *SMALL)  # fmt: skip
    (line,) = map(json.loads, lines.read_text().splitlines())
    assert line["changed"] == experiments.EXPERIMENTS["short"]
    assert (line["config"]["num_epochs"], line["config"]["batch_size"]) == (2, 8)
    judged = json.loads((compared / "runs" / "short" / "evaluation.json").read_text())["test"]
    for key, value in line["artists_never_seen"].items():
        assert value == pytest.approx(judged[key]["value"], abs=1e-4)  # It has four decimals.
