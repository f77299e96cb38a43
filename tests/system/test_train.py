"""The whole road at a tiny size: train, stop, continue, diverge, evaluate, and wrong usage."""

import contextlib
import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from configs import quickstart
from painterjax import benchmark, evaluate, prepare, train
from painterjax.common import checksums, cli, files, signals
from painterjax.common.errors import DivergedError, InputError
from painterjax.data import store, synthetic
from painterjax.losses import objectives
from painterjax.metrics import evaluator
from painterjax.model.embedder import untrained
from painterjax.run import evaluation, load, speed
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.run.config_rules import RULES
from painterjax.run.figures import FLOORS
from painterjax.run.load import load_run
from painterjax.training import trainer
from tests.helpers.runs import assert_same, events, last_state, records
from tests.helpers.tiny import ROOT, STEPS_PER_EPOCH, STORE, TINY
from tests.helpers.tiny import argv as _argv
from tests.helpers.tiny import train as _train

# A train command that kills its own process before the step given first.
KILLED = """
import os, signal, sys
from painterjax import train
from painterjax.common import cli
from painterjax.training import trainer
steps, run = int(sys.argv.pop(1)), trainer.Training.run
def killing(training, state, batch, count):
    if int(state.step) + 1 == steps:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(training, state, batch, count)
trainer.Training.run = killing
cli.run(train.main, "train")
"""


def test_a_run_says_what_it_did(run):
    found = records(run)
    steps = [(r["step"], r["epoch"]) for r in found if r["split"] == "train"]
    assert steps == [(i, 1 + (i - 1) // STEPS_PER_EPOCH) for i in range(2, 73, 2)]
    expected = {
        "loss", "accuracy", "positive_distance", "negative_distance", "active_fraction",
        "embedding_spread", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert expected <= found[0].keys()
    timed = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert {"step_ms", "data_wait_ms", "images_per_s"} <= timed.keys()
    validations = [r for r in found if r["split"] == "val"]
    assert [r["step"] for r in validations] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    assert {"loss", "accuracy", "roc_auc", "recall_at_1"} <= validations[0].keys()
    assert all(0 < r["roc_auc"] < 1 for r in validations)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__


def test_the_latest_two_checkpoints_and_the_best_are_kept_and_the_best_is_judged(run):
    validations = {r["step"]: r["roc_auc"] for r in records(run) if r["split"] == "val"}
    best = max(validations, key=lambda step: (validations[step], step))
    kept = {int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {66, 72, best}  # Every ten steps of an epoch, and at its end.
    assert json.loads((run / "evaluation.json").read_text())["step"] == best


def test_tensorboard_shows_the_same_scalars(run):
    scalars = events(run)
    for record in records(run):
        key = (record["step"], f"{record['split']}/loss")
        assert scalars[key] == pytest.approx(record["loss"], rel=1e-6)  # They are float32.


# Five steps a dispatch; 18 in an epoch, so that its last dispatch takes three.
CLASSIFIER = [
    "--config.loss.name=cosine_classifier",
    "--config.loss.margin=0.2",
    "--config.loss.paintings_per_artist=1",
    "--config.batch_size=2",
    "--config.steps_per_dispatch=5",
    "--config.log_every_steps=5",
    "--config.checkpoint_every_steps=5",
]


@pytest.fixture(scope="module")
def classifier_run(tiny_store, tmp_path_factory) -> Path:
    """An undisturbed run that learns proxies, several steps a dispatch."""
    path = tmp_path_factory.mktemp("runs") / "classifier"
    train.main(_argv(tiny_store, path, *CLASSIFIER))
    return path


@pytest.mark.slow
def test_proxies_and_dispatches_of_several_steps_continue_as_well(
    classifier_run, tiny_store, tmp_path
):
    argv = _argv(tiny_store, tmp_path / "run", *CLASSIFIER)
    _kill_and_continue(argv, tmp_path / "run", kills=(16, 34), steps_per_epoch=18)
    assert_same(tmp_path / "run", classifier_run)
    assert any("proxies" in name for name in last_state(classifier_run)[0])


def _kill_and_continue(
    argv: list[str], run: Path, *, kills: tuple[int, ...], steps_per_epoch: int
) -> None:
    for step in kills:
        killed = _train([str(step), *argv], python=("-c", KILLED))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        checkpoints = Checkpoints(run)
        assert 0 < (checkpoints.latest_step or 0) < step
        assert (checkpoints.latest_step or 0) % steps_per_epoch
        checkpoints.close()
    train.main(argv)


def test_a_finished_run_is_judged_again_and_not_changed(run):
    before = records(run)
    train.main(_argv(store.open_store(run_folder.read_config(run).data.store).path, run))
    assert records(run) == before


def test_another_config_is_refused(run, tiny_store):
    with pytest.raises(InputError, match=r"loss\.margin was 2\.0, is 1\.0, seed was 0, is 3"):
        train.main(_argv(tiny_store, run, "--config.seed=3", "--config.loss.margin=1.0"))


def test_fewer_epochs_are_refused(run, tiny_store):
    with pytest.raises(InputError, match=r"num_epochs was 2, is 1"):
        train.main(_argv(tiny_store, run, "--config.num_epochs=1"))


@pytest.mark.slow
def test_what_changes_no_mathematics_may_change_on_the_way(run, tiny_store, tmp_path, capsys):
    """Also the number of epochs may grow: it ends with the bits of a run that had them at once."""
    path, other_store = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(tiny_store, other_store)
    begun = {
        "num_epochs": 1, "data.residency": "host", "data.store": other_store, "eval.triplets": 50,
        "eval.batch_size": 7, "log_every_steps": 4, "checkpoint_every_steps": 20,
        "checkpoint_keep_every_epochs": 1, "eval.every_epochs": 2, "eval.floors": False,
        "eval.max_paintings": 100,
    }  # fmt: skip
    may_change = {key for key, rule in RULES.items() if rule.may_become(1, 2)}
    # Of the first see test_step.py, of the second test_memory.py; the third has a SHA-256 that may
    # not change.
    assert may_change == {*begun, "steps_per_dispatch", "model.remat", "model.weights"}
    train.main(_argv(tiny_store, path, *(f"--config.{key}={was}" for key, was in begun.items())))
    shutil.rmtree(other_store)
    capsys.readouterr()
    train.main(_argv(tiny_store, path))
    assert "train: goes on with data.residency auto instead of host" in capsys.readouterr().err
    ended, undisturbed = last_state(path)[0], last_state(run)[0]
    assert ended.keys() == undisturbed.keys()
    for name, array in ended.items():
        np.testing.assert_array_equal(array, undisturbed[name], err_msg=name)
    assert run_folder.read_config(path) == run_folder.read_config(run)
    assert json.loads((path / "evaluation.json").read_text())["test"]


@pytest.mark.slow
def test_a_run_starts_from_what_fits_of_another_and_keeps_checkpoints(
    run, tiny_store, tmp_path, capsys
):
    argv = _argv(
        tiny_store, tmp_path / "run", "--init-from", str(run), "--config.model.embedding_dim=8",
        "--config.optimizer.learning_rate=1e-12", "--config.num_epochs=4",
        "--config.checkpoint_keep_every_epochs=1",
    )  # fmt: skip
    train.main(argv)
    said = capsys.readouterr().err
    assert f"arrays start as in {run}; as usual start params.head.linear.bias" in said
    source, trained = load_run(run), load_run(tmp_path / "run")
    blocks, expected = (each.embedder.params["backbone"] for each in (trained, source))
    # Adam moves a weight by the learning rate at most in each of 144 steps.
    for array, other in zip(*map(jax.tree.leaves, (blocks, expected)), strict=True):
        np.testing.assert_allclose(array, other, rtol=0, atol=2e-10)
    expected = {**source.origin, "run": str(run.resolve())}
    assert expected.items() <= files.read_json(tmp_path / "run" / "init_from.json").items()
    kept = {int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("*[0-9]")}
    assert kept >= {STEPS_PER_EPOCH * epoch for epoch in range(1, 5)}


def test_a_run_of_which_nothing_fits_is_no_start(run, tiny_store, tmp_path):
    config = quickstart.get_config()
    config.data.store, config.batch_size = str(tiny_store), 4
    config.model.update(widths=(6,), depths=(1,), embedding_dim=8)
    with pytest.raises(InputError, match="no array of it fits this recipe's network"):
        train.train(config, tmp_path / "run", init_from=run)


def test_a_checkpoint_of_other_devices_opens(run, tmp_path):
    """Orbax writes down the devices that arrays lay on; here, eight that this machine lacks."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    edited = 0
    for path in copy.rglob("_sharding"):
        by_array = json.loads(path.read_text())
        for key, text in by_array.items():
            sharding = json.loads(text)
            sharding["shape"] = [8]
            sharding["device_mesh"] = {"mesh": [{"id": device + 100} for device in range(8)]}
            by_array[key] = json.dumps(sharding)
            edited += 1
        path.write_text(json.dumps(by_array))
    assert edited > 20
    for folder in (copy / "checkpoints").glob("*[0-9]"):
        checksums.seal(folder)
    assert load_run(copy).origin["network_sha256"] == load_run(run).origin["network_sha256"]
    for name, array in last_state(copy)[0].items():
        np.testing.assert_array_equal(array, last_state(run)[0][name])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tiny_store, tmp_path):
    argv = _argv(tiny_store, tmp_path / "run", "--config.optimizer.decay=1e30")
    with pytest.raises(DivergedError, match=r"step 3[78]: the loss is .*lower optimizer"):
        train.main([*argv, "--config.optimizer.milestones=(1,)"])
    arrays, position = last_state(tmp_path / "run")
    assert position == STEPS_PER_EPOCH
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_full_memory_is_explained_and_its_remedy_works(tiny_store, tmp_path, monkeypatch):
    def run(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")

    argv = _argv(tiny_store, tmp_path / "run", "--config.num_epochs=1")
    full = pytest.raises(
        InputError, match=r"full: set data.residency to host or model.remat to True, or lower"
    )
    with full as refusal, monkeypatch.context() as patch:
        patch.setattr(trainer.Training, "run", run)
        train.main(argv)
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"batch_size was 1, is 2\): .*another --workdir"):
        train.main([*argv, "--config.batch_size=2"])
    train.main([*argv, "--config.data.residency=host", "--config.eval.batch_size=8"])
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["step"] == STEPS_PER_EPOCH


def test_a_network_that_fits_no_memory_is_refused(tiny_store, tmp_path):
    config = quickstart.get_config()
    config.data.store = str(tiny_store)
    config.model.update(widths=(2**16, 2**16), depths=(1, 1))  # 155 GB of weights.
    with pytest.raises(InputError, match=r"the memory is full: .*or lower .*model\.widths"):
        train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_trainings_on_one_run_are_refused(run, tiny_store):
    with (
        files.claimed(run),
        pytest.raises(InputError, match=r"another process works in .*: wait until it ends"),
    ):
        train.main(_argv(tiny_store, run))


def test_a_run_that_another_began_meanwhile_is_left_alone(tiny_store, tmp_path, monkeypatch):
    """As where a large store takes its time to be verified."""
    begun = tmp_path / "run"

    def verify(path: Path, **_: Any) -> None:
        config = quickstart.get_config()
        config.seed = 3
        begun.mkdir()
        run_folder.begin(begun, config, store.open_store(path).info)

    monkeypatch.setattr(train, "verify", verify)
    with pytest.raises(InputError, match=r"begun with another config \(.*, seed was 3, is 0\)"):
        train.main(_argv(tiny_store, begun))
    papers = {"config.json", "dataset.json", "environment.json", "lock"}
    assert {path.name for path in begun.iterdir()} == papers
    assert run_folder.read_config(begun).seed == 3


def test_another_store_under_the_same_name_is_not_judged(run, tiny_store, tmp_path):
    """Its test artists could be the training's."""
    before = (run / "evaluation.json").read_bytes()
    prepare.main([*STORE, "--output", str(tmp_path / "other"), "--seed", "1"])
    with _replaced(tiny_store, tmp_path / "other"):
        with pytest.raises(InputError, match=r"begun with another dataset \(seed was 0, is 1"):
            evaluate.main(["--run", str(run)])
        with pytest.raises(InputError, match=r"begun with another dataset \(seed was 0, is 1"):
            train.main(_argv(tiny_store, run))
    assert (run / "evaluation.json").read_bytes() == before


@contextlib.contextmanager
def _replaced(path: Path, other: Path) -> Iterator[None]:
    aside = path.rename(path.with_name("aside"))
    other.rename(path)
    yield
    path.rename(other)
    aside.rename(path)


def test_evaluation_leaves_a_save_that_is_under_way_alone(run):
    under_way = run / "checkpoints" / "99.orbax-checkpoint-tmp"
    under_way.mkdir()
    evaluate.main(["--run", str(run)])
    assert under_way.exists()
    under_way.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_told_to_stop_it_ends_in_one_line(number, word, tiny_store, tmp_path):
    path = tmp_path / "run"
    argv = _argv(tiny_store, path, "--config.num_epochs=10000")
    process = subprocess.Popen(
        [sys.executable, "-m", "painterjax.train", *argv], cwd=ROOT, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (path / "checkpoints" / "30").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    told_s = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - told_s < 10
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert said.splitlines()[-1] == f"painterjax.train: {word}; run it again to continue"
    checkpoints = Checkpoints(path)
    shown = re.findall(r"([\d,]+) of [\d,]+ steps", said)[-1]
    assert checkpoints.latest_step == int(shown.replace(",", ""))
    checkpoints.close()


WRONG = {
    "no config": (["--workdir", "x"], "--config configs/NAME.py is required"),
    "no workdir": (["--config=configs/quickstart.py"], "--workdir is required"),
    "empty workdir": ([*TINY, "--workdir="], "--workdir is empty, perhaps by a variable that is"),
    "no such recipe": (
        ["--config=configs/none.py", "--workdir", "x"],
        r"^no recipe at configs/none\.py: the shipped ones are .*quickstart.*; or give a path$",
    ),
    "unknown flag": ([*TINY, "--workdir", "x", "--fast"], "Unknown command line flag 'fast'"),
    "unknown key": (
        [*TINY, "--workdir", "x", "--config.batch_siz=3"],
        r"unknown key batch_siz: did you mean batch_size\?",
    ),
    "wrong type": ([*TINY, "--workdir", "x", "--config.num_epochs=many"], "many"),
    "no store": (
        [*TINY, "--workdir", "x", "--config.data.store=nowhere"],
        "no store at nowhere: make one with python -m painterjax.prepare",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv, message = WRONG[case]
    with pytest.raises(InputError, match=message) as refusal:
        train.main([str(tmp_path / "run") if word == "x" else word for word in argv])
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


IMPOSSIBLE = {
    "loss.margin=-1.0": r"loss\.margin is -1\.0: ",
    "loss.margin=0.0": r"loss\.margin is 0\.0: ",
    "loss.name=cosine_classifier": r"loss\.margin is 2\.0: ",
    "model.head=convolutional": r"model\.head is 'convolutional': .* dense, statistics",
    "augmentation.crop=33": r"augmentation\.crop is 33: .* 4",
    "steps_per_dispatch=3": r"log_every_steps is 2, steps_per_dispatch 3: ",
    # A tuple that is given twice grows: TINY's (8, 16) is in front.
    "model.widths=(4,)": r"model\.widths is \(8, 16, 4\), model\.depths \(1, 1\)",
    "optimizer.milestones=(0.5,)": r"optimizer\.milestones is .*0\.5",
    "augmentation.scale=('a','b')": r"augmentation\.scale is .*'a', 'b'",
    "optimizer.learning_rate=inf": r"optimizer\.learning_rate is inf: ",
}


RECIPES = {
    "import nowhere": "No module named 'nowhere'",
    "def get_config(:": "SyntaxError",
    "def get_config(): return undefined": "NameError: name 'undefined' is not defined",
    "raise ValueError('no value')": "^ValueError: no value; see --help$",
    "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'seed': 1})": (
        "the recipe lacks batch_size, .*: begin it with configs/default.py"
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_broken_recipe_is_refused_in_one_line(recipe, tiny_store, tmp_path):
    (tmp_path / "broken.py").write_text(recipe)
    argv = [f"--config={tmp_path}/broken.py", "--workdir", str(tmp_path / "run")]
    with pytest.raises(InputError, match=RECIPES[recipe]) as refusal:
        train.main(argv)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_collapse_is_said_once_at_its_step_with_advice(tiny_store, tmp_path, capsys):
    """Batch-hard at a high learning rate, as it is met most often."""
    overrides = [
        "--config.loss.name=batch_hard",
        "--config.batch_size=4",
        "--config.loss.paintings_per_artist=4",
        "--config.optimizer.learning_rate=0.1",
        "--config.num_epochs=8",
        "--config.log_every_steps=1",
    ]
    train.main(_argv(tiny_store, tmp_path / "run", *overrides))
    said = capsys.readouterr().err
    (step,) = map(int, re.findall(r"step (\d+): the embedding is collapsing to a point", said))
    assert "lower optimizer.learning_rate" in said
    found = [r for r in records(tmp_path / "run") if r["split"] == "train"]
    collapsed = [objectives.collapse_warning(r) is not None for r in found]
    assert step == collapsed.index(True) + 1
    assert step < 20
    assert found[-1]["loss"] == pytest.approx(2.0, rel=0.05)  # the margin


@pytest.mark.slow
def test_the_second_start_finds_its_step_compiled(run, tiny_store, tmp_path, monkeypatch):
    """Its cache has no new entry; the first start's has."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = _argv(tiny_store, tmp_path / "run", "--config.num_epochs=1")
    entries = []
    for name in ("first", "second"):
        done = _train([*argv, "--workdir", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr
        entries.append({path.name for path in (tmp_path / "cache").rglob("*-cache")})
    assert any("train_steps" in name for name in entries[0])
    assert entries[0] == entries[1]


def test_a_folder_of_something_else_is_not_trained_into(tiny_store, tmp_path):
    """What a start leaves that was killed at once, and a volume holds, is nothing."""
    for name in ("lock", "lost+found", ".DS_Store", "config.json.0123abcd.tmp"):
        (tmp_path / name).touch()
    run_folder.check_folder(tmp_path)
    (tmp_path / "letter.txt").touch()
    with pytest.raises(InputError, match=r"holds letter.txt and is no run: choose another --work"):
        train.main(_argv(tiny_store, tmp_path))
    assert len(list(tmp_path.iterdir())) == 5
    (tmp_path / "config.json").touch()
    run_folder.check_folder(tmp_path)
    run_folder.check_folder(tmp_path / "new")


@pytest.mark.parametrize(
    ("module", "library", "work", "argv"),
    [
        (evaluate, evaluation, "evaluate", ["--run", "x"]),
        (benchmark, speed, "measure", ["--config=configs/quickstart.py", "--image-size=32"]),
    ],
)
def test_a_full_disk_leaves_earlier_json_as_it_was(
    module, library, work, argv, tmp_path, monkeypatch
):
    path = tmp_path / "out.json"
    path.write_text("{}")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(library, work, lambda *_, **__: {"far too": "long"})
    monkeypatch.setattr(load, "load_run", lambda path: path)
    monkeypatch.setattr(benchmark, "table", str)

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        module.main([*argv, "--json", str(path)])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out.json", "{}")]
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(InputError, match=r"--json is .*: it cannot be written, choose a folder th"):
        module.main([*argv, "--json", str(path)])


@pytest.mark.parametrize(
    ("name", "readable", "remedy"),
    [
        ("there", True, cli.READ_ONLY),
        ("there", False, cli.UNREADABLE),
        ("new", True, cli.READ_ONLY),
        ("new", False, cli.UNREADABLE),
    ],
)
def test_what_cannot_be_read_and_what_not_written_have_remedies_of_their_own(
    name, readable, remedy, tmp_path, monkeypatch, capsys
):
    """Where root may do all, by a stand-in for the file system."""
    (tmp_path / "there").touch()

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name))

    monkeypatch.setattr(os, "access", lambda *_: readable)
    monkeypatch.setattr(signals, "watch", lambda _: None)
    with pytest.raises(SystemExit, match="2"):
        cli.run(refuse, "train")
    assert capsys.readouterr().err == f"painterjax.train: error: {tmp_path / name}: {remedy}\n"


def test_papers_and_pixels_that_cannot_be_read_are_not_said_to_be_missing(
    run, tiny_store, monkeypatch
):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for target, name in ((files, "read_json"), (np.lib.format, "open_memmap")):
        with monkeypatch.context() as patch, pytest.raises(PermissionError):
            patch.setattr(target, name, refuse)
            run_folder.read_config(run)
            store.open_store(tiny_store)


@pytest.mark.parametrize("override", IMPOSSIBLE)
def test_an_impossible_value_is_refused_before_any_work(override, tiny_store, tmp_path):
    with pytest.raises(InputError, match=IMPOSSIBLE[override]):
        train.main(_argv(tiny_store, tmp_path / "run", f"--config.{override}"))
    assert not (tmp_path / "run").exists()


def test_evaluation_is_scikit_learn_s(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    opened = load_run(run)
    start = untrained(opened.config, image_size=opened.store.image_size)
    assert opened.step == evaluation["step"]
    for name in ("val", "test"):
        split = opened.store.splits[name]
        anchor_T, positive_T, negative_T = evaluator.fixed_triplets(split, count=200).T
        images = split.image_NxSxSxC
        for key, emb_NxD in {
            None: opened.embedder.embed(images),
            "untrained": start.embed(images),
            "color_histogram": evaluator.color_histograms(images),
        }.items():
            figures = evaluation[name] if key is None else evaluation[name][key]
            distances = [
                np.linalg.norm(emb_NxD[anchor_T].astype(float) - emb_NxD[other_T], axis=1)
                for other_T in (positive_T, negative_T)
            ]
            expected = roc_auc_score(np.repeat((1, 0), 200), -np.concatenate(distances))
            assert figures["roc_auc"]["value"] == pytest.approx(expected, abs=1e-9)
            for metric in ("triplet_accuracy", "mean_of_two_accuracy", "recall_at_1", "map_at_r"):
                figure = figures[metric]
                assert 0 <= figure["value"] <= 1
                if name == "val":  # There are two artists in the test: no interval.
                    assert figure["low"] <= figure["value"] <= figure["high"] <= 1


@pytest.mark.parametrize("command", ["prepare", "prepare folder", "train", "evaluate"])
def test_help_has_an_example(command, capsys):
    name, *words = command.split()
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(f"painterjax.{name}").main([*words, "--help"])
    assert f"Example:\n\n    python -m painterjax.{command} " in capsys.readouterr().out


def test_wrong_usage_ends_with_2_and_no_traceback(monkeypatch, capsys):
    done = _train([])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    monkeypatch.setattr(signals, "watch", lambda _: None)
    for command in ("prepare folder --input nowhere --output x", "train", "evaluate --run nowhere"):
        name, *words = command.split()
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit, match="2"):
            cli.run(importlib.import_module(f"painterjax.{name}").main, name)
        assert re.fullmatch(rf"painterjax\.{name}: error: [^\n]+\n", capsys.readouterr().err)


def test_evaluate_writes_what_it_is_asked_for(run, tmp_path, capsys):
    before = json.loads((run / "evaluation.json").read_text())
    evaluate.main(["--run", str(run), "--split", "test", "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == before
    assert json.loads((run / "evaluation.json").read_text()) == before
    printed = capsys.readouterr().out
    assert f"{before['test']['roc_auc']['value']:.3f}" in printed
    assert "seen in training" in printed
    assert "val:" not in printed


def test_floors_are_left_out_and_a_large_split_is_sampled_where_asked(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    before = json.loads((copy / "evaluation.json").read_text())["test"]
    assert before["judged_paintings"] == before["paintings"]
    opened = load_run(copy)
    opened.config.eval.max_paintings = 10
    evaluation.evaluate(opened, splits=("test",))
    sampled = json.loads((copy / "evaluation.json").read_text())["test"]
    assert (sampled["judged_paintings"], sampled["paintings"]) == (10, before["paintings"])
    assert sum(of["paintings"] for of in sampled["groups"]["artist"]) == 10
    said = f"test: a sample of 10 of {before['paintings']} paintings by "
    assert said in capsys.readouterr().out
    evaluate.main(["--run", str(copy), "--floors", "none"])
    after = json.loads((copy / "evaluation.json").read_text())["test"]
    assert after == {k: of for k, of in before.items() if k not in FLOORS}
    assert "color_histogram" not in capsys.readouterr().out


def test_validation_is_every_so_many_epochs_and_at_the_end(tiny_store, tmp_path):
    overrides = (
        "--config.num_epochs=3",
        "--config.eval.every_epochs=2",
        "--config.eval.floors=False",
    )
    train.main(_argv(tiny_store, tmp_path / "run", *overrides))
    validated = [r["epoch"] for r in records(tmp_path / "run") if r["split"] == "val"]
    assert validated == [2, 3]
    judged = json.loads((tmp_path / "run" / "evaluation.json").read_text())["test"]
    assert not judged.keys() & {*FLOORS}


def test_a_split_with_one_artist_is_not_judged_and_training_goes_on(tmp_path, capsys):
    prepare.main([*STORE, "--output", str(tmp_path / "store"), "--artists", "5"])
    train.main(_argv(tmp_path / "store", tmp_path / "run", "--config.num_epochs=1"))
    out, err = capsys.readouterr()
    assert "test: not judged, tuples need two artists" in out
    validated = (
        r"\nepoch 1/1: validation ROC AUC 0\.\d{3} \(the best so far\), recall@1 \d\.\d{3}\n"
    )
    assert len(re.findall(validated, err)) == 1
    assert re.search(r"\n  ROC AUC is .*the untrained network's.*\n(.*\n)+next:\n", out)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()).keys() == {
        "step", "network_sha256", "threshold", "calibration", "attribution", "val",
    }  # fmt: skip
    with pytest.raises(InputError, match="has nothing to judge in test"):
        evaluate.main(["--run", str(tmp_path / "run"), "--split", "test"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--run", "nowhere"], r"no run at nowhere \(config\.json: No such file"),
        ([], "one of the arguments --run --embeddings is required"),
        (["--run", "x", "--split", "train"], "invalid choice: 'train'"),
        (["--run="], "argument --run: is empty, perhaps by a variable that is not set"),
    ],
)
def test_evaluate_refuses_in_one_line(argv, message):
    with pytest.raises(InputError, match=message):
        evaluate.main(argv)


def test_a_color_histogram_counts_pixels():
    image_1xSxSxC = np.zeros((1, 4, 4, 3), np.uint8)
    image_1xSxSxC[0, :2] = (255, 40, 0)  # half of the pixels: bins 7, 1, 0
    histogram_512 = evaluator.color_histograms(image_1xSxSxC)[0]
    assert histogram_512[0] == histogram_512[7 * 64 + 8] == pytest.approx(0.5**0.5)
    assert np.count_nonzero(histogram_512) == 2


def test_the_store_of_quickstart_is_painted_where_it_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "ARTISTS", 8)
    monkeypatch.setattr(synthetic, "PAINTINGS", 8)
    monkeypatch.setattr(synthetic, "STORE_IMAGE_SIZE", 32)
    monkeypatch.setattr(store, "VAL_FRACTION", 0.25)
    opened: list[Any] = []
    monkeypatch.setattr(train, "train", lambda config, *_, **__: opened.append(config.data.store))
    for _ in range(2):
        train.main(["--config", "quickstart", "--workdir", "runs/quickstart"])
    assert capsys.readouterr().err.count("no store at data/synthetic: painting it") == 1
    assert len(store.open_store(opened[0]).splits["train"]) == 36
    train.main(["--config", "scratch", "--workdir", "runs/scratch"])
    assert not Path(opened[-1]).exists()
