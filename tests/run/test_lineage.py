"""Runs that start from another: which weights they take, and what these were trained on."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare, submit, train
from painterjax.common import files, signals
from painterjax.common.errors import InputError
from painterjax.data import store
from painterjax.data.catalog import Painting
from painterjax.data.store import Split
from painterjax.run import evaluation, initial, lineage
from painterjax.run.figures import artists_of
from painterjax.run.load import load_run
from tests.helpers import tiny


@pytest.fixture
def source(run, tiny_store, tmp_path) -> Path:
    """A run of its own, on a store of its own."""
    path = tmp_path / "source"
    shutil.copytree(run, path)
    shutil.copytree(tiny_store, tmp_path / "source-store")
    config = json.loads((path / "config.json").read_text())
    config["data"]["store"] = str(tmp_path / "source-store")
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def begin(monkeypatch):
    """Trains until the first step, at which it is stopped without a checkpoint."""

    def stop(*_):
        raise signals.Stopped(signal.SIGTERM)

    monkeypatch.setattr(train, "_take_steps", stop)

    def begin(store_path: Path, path: Path, *flags: str) -> None:
        with pytest.raises(signals.Stopped):
            train.main(tiny.argv(store_path, path, *flags))

    return begin


def _finish(path: Path, run: Path) -> None:
    """Gives a begun run the checkpoints of another and their evaluation."""
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    shutil.copytree(run / "checkpoints", path / "checkpoints")
    shutil.copy(run / "evaluation.json", path)


def _prepared(path: Path, seed: int) -> Path:
    """Other paintings by painters of the same names, split in another way."""
    prepare.main([*tiny.STORE, "--output", str(path), "--seed", str(seed)])
    return path


@pytest.fixture
def descendant(run, source, begin, tmp_path) -> Path:
    """A run from a run from `source`; their stores are 2, 1 and source-store."""
    for path, before, seed in (("b", source, 1), ("c", tmp_path / "b", 2)):
        made = _prepared(tmp_path / f"{seed}", seed)
        begin(made, tmp_path / path, "--init-from", str(before))
        _finish(tmp_path / path, run)
    return tmp_path / "c"


@pytest.mark.usefixtures("no_workers")
def test_what_ancestors_were_trained_on_counts(descendant, tmp_path, capsys):
    """The run's own store, that of its source, and that of the source's source."""
    last = load_run(descendant)
    stores = [tmp_path / name for name in ("source-store", "1", "2")]
    opened = [store.open_store(path) for path in stores]
    assert [each.path for each in last.stores_trained_on()] == [stores[2], stores[1], stores[0]]
    seen = {artist for each in opened for artist in each.splits["train"].artists}
    assert len(seen) > len(opened[2].splits["train"].artists)
    assert last.artists_trained_on == seen

    images = tmp_path / "images"
    images.mkdir()
    for i, each in enumerate(opened):
        Image.fromarray(each.splits["train"].image_NxSxSxC[3]).save(images / f"{i}.png")
        Image.fromarray(each.splits["test"].image_NxSxSxC[0]).save(images / f"new {i}.png")
    pairs = "".join(f"{i},{i}.png,new {i}.png\n" for i in range(3))
    (tmp_path / "pairs.csv").write_text("index,image1,image2\n" + pairs)
    argv = ["--run", str(descendant), "--pairs", str(tmp_path / "pairs.csv"), "--workers", "1"]
    argv += ["--images", str(images), "--output", str(tmp_path / "scores.csv")]
    with pytest.raises(InputError, match=r"trained on 3 of the 6 images .* --init-from no run"):
        submit.main(argv)
    stores[0].rename(tmp_path / "moved")
    gone = rf"trained on the store {stores[0]}, where none is now: .*--allow-trained-on"
    with pytest.raises(InputError, match=gone) as refusal:
        submit.main(argv)
    assert "\n" not in str(refusal.value)
    shutil.copytree(stores[1], stores[0])
    with pytest.raises(InputError, match=rf"the store {stores[0]}, where another is now: "):
        submit.main(argv)
    submit.main([*argv, "--allow-trained-on"])
    assert "trained_on: unknown, training began from weights" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_counts_the_artists_of_ancestors(descendant, capsys):
    evaluation.evaluate(load_run(descendant), splits=("test",))
    said = capsys.readouterr().out
    assert "test: 16 paintings by 2 artists" in said
    assert "never seen in training" not in said


def test_a_store_that_a_run_and_its_source_share_may_move(run, source, begin, tmp_path):
    begin(tmp_path / "source-store", tmp_path / "b", "--init-from", str(source))
    _finish(tmp_path / "b", run)
    (tmp_path / "source-store").rename(tmp_path / "moved")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    config["data"]["store"] = str(tmp_path / "moved")
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    opened = load_run(tmp_path / "b").stores_trained_on()
    assert [each.path for each in opened] == [tmp_path / "moved"]


def test_an_artist_is_seen_in_any_spelling():
    works = [Painting(f"{i}", name) for i, name in enumerate(["Paul Cézanne", "X", "Y"])]
    names = [painting.artist for painting in works]
    test = Split("test", np.zeros((3, 1, 1, 3), np.uint8), np.arange(3), names, works)
    said = artists_of(test, {"paul-cezanne", "x", "Z"})
    assert said == "3 artists, 2 of them seen in training"
    said = artists_of(test, {"x", "5b39c876740bfc1cfaf544721c43cac3"})
    assert said == "3 artists, 1 or more seen in training (some names are hashes)"


def _refused(store_path: Path, path: Path, message: str, *flags: str) -> None:
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message) as refusal:
        train.main(tiny.argv(store_path, path, *flags))
    assert "\n" not in str(refusal.value)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_a_run_that_began_without_another_takes_no_other_s_weights(
    run, source, begin, tiny_store, tmp_path
):
    begin(tiny_store, tmp_path / "begun")
    for path in (run, tmp_path / "begun"):
        for given in (source, tmp_path / "nowhere"):
            message = r"begun without --init-from: leave it out, or choose another --workdir"
            _refused(tiny_store, path, message, "--init-from", str(given))


def test_a_run_takes_the_weights_of_one_other_run(run, source, begin, tiny_store, tmp_path):
    begun, given, other = tmp_path / "begun", ("--init-from", str(source)), tmp_path / "other"
    shutil.copytree(source, other)
    begin(tiny_store, begun, *given)
    paper = (begun / "init_from.json").read_bytes()
    for _ in ("without a checkpoint", "killed before config.json was written"):
        message = rf"with --init-from {source} and has no checkpoint yet: repeat that"
        _refused(tiny_store, begun, message)
        message = rf"with --init-from {source}, not {other}: repeat that, or choose"
        _refused(tiny_store, begun, message, "--init-from", str(other))
        begin(tiny_store, begun, *given)
        assert (begun / "init_from.json").read_bytes() == paper
        shutil.rmtree(begun / "checkpoints")
        for name in ("config", "dataset", "environment"):
            (begun / f"{name}.json").unlink()
    # The best checkpoint of the source is another now.
    best = source / "checkpoints" / str(load_run(source).step)
    best.rename(tmp_path / "best")
    assert load_run(source).step != int(best.name)
    _refused(tiny_store, begun, r"other weights of .* \(network_sha256 was .*, is", *given)
    (tmp_path / "best").rename(best)
    begin(tiny_store, begun, *given)
    # From a checkpoint on the source is not needed.
    _finish(begun, run)
    _refused(tiny_store, begun, "repeat that, or choose", "--init-from", str(other))
    shutil.rmtree(source)
    begin(tiny_store, begun, *given)
    begin(tiny_store, begun)
    assert (begun / "init_from.json").read_bytes() == paper


def test_a_source_of_which_nobody_knows_what_it_was_trained_on_is_refused(
    source, begin, tiny_store, tmp_path
):
    given = ("--init-from", str(source))
    _refused(tiny_store, tmp_path / "b", r"no run at .*nowhere", "--init-from", "nowhere")
    (tmp_path / "source-store").rename(tmp_path / "moved")
    _refused(tiny_store, tmp_path / "b", r"--init-from .*: no store at .*source-store", *given)
    (tmp_path / "moved").rename(tmp_path / "source-store")
    for damaged in (b"", b"[]", b'{"run": "x", "step": 1, "network_sha256": "x"}'):
        (source / "init_from.json").write_bytes(damaged)
        _refused(tiny_store, tmp_path / "b", r"init_from\.json is damaged or of an earlier", *given)
    assert not (tmp_path / "b").exists()


def test_processes_compare_the_weights_that_they_start_from(source, config):
    told = initial.weights_sha256(config, source)
    assert told != initial.weights_sha256(config, None)
    (newest,) = (source / "checkpoints" / "72").glob("SHA256SUMS")
    newest.write_text(newest.read_text().replace("a", "b"))
    assert initial.weights_sha256(config, source) != told


@pytest.mark.parametrize("key", ["run", "network_sha256", "artists", "stores"])
def test_what_a_run_began_from_is_read_or_refused(source, tmp_path, key):
    begun = initial.origin(load_run(source))
    path = tmp_path / "init_from.json"
    files.write_json(path, begun)
    assert lineage.read(tmp_path).run == str(source)
    for value in (None, 3, [3], [{"path": "x"}]):
        files.write_json(path, {**begun, key: value})
        try:
            lineage.read(tmp_path)
        except InputError as refusal:
            assert "\n" not in str(refusal)
    files.write_json(path, {name: value for name, value in begun.items() if name != key})
    with pytest.raises(InputError, match=r"damaged or of an earlier version \(KeyError"):
        lineage.read(tmp_path)
