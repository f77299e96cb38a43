"""Malformed input: a sample of the corpus; `benchmarks.malformed` runs all of it."""

import copy
import csv
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs import default
from painterjax.common.config import flatten
from painterjax.common.errors import InputError
from painterjax.data import images, sources, store
from painterjax.run import config_checks, embeddings, metrics_log
from painterjax.run.load import load_run
from tests.helpers import corpus, tiny

HANG_S = 300  # Only ends a test that hangs.


def test_the_corpus_is_the_same_for_the_same_seed():
    def mutations(seed):
        return [corpus.mutated(corpus.pictures(), seed=seed, index=i) for i in range(100)]

    assert mutations(1) == mutations(1) != mutations(2)


def test_two_hundred_malformed_images_become_pixels_or_a_named_reason():
    whole, outcomes = corpus.pictures(), {"pixels": 0, "reason": 0}
    some = [corpus.mutated(whole, seed=7, index=index) for index in range(200)]
    for name, data in [*whole.items(), *some]:
        try:
            assert images.decode(data, size=32).shape == (32, 32, 3)
            outcomes["pixels"] += 1
        except images.ImageError as reason:
            assert str(reason), name
            assert not name.startswith("closed") or str(reason) == "not an image that can be read"
            outcomes["reason"] += 1
    assert min(outcomes.values()) > 50


def test_thousands_of_scans_are_refused_before_they_are_decoded():
    with pytest.raises(images.ImageError, match="100 scans"):
        images.decode(corpus.many_scans(4000, 20_000), size=32)
    assert images.decode(corpus.many_scans(64, 20), size=32).shape == (32, 32, 3)


def _prepare(argv: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "painterjax.prepare", *argv, "--image-size", "32"]
    command += ["--workers", "1"]
    environment = {"PYTHONPATH": str(tiny.ROOT), "PATH": ""}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=HANG_S
    )


def test_a_malformed_folder_becomes_a_store_of_its_good_images(tmp_path):
    folder = tmp_path / "paintings"
    some = dict(corpus.mutated(corpus.pictures(), seed=3, index=i) for i in range(60))
    corpus.fill(folder, {name: data for name, data in some.items() if name.startswith("closed")})
    before = {path for path in tmp_path.rglob("*") if not path.is_symlink()}
    done = _prepare(["folder", "--input", str(folder), "--output", "store"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    opened = store.open_store(tmp_path / "store")
    assert sum(map(len, opened.splits.values())) == 9
    after = {path for path in tmp_path.rglob("*") if not path.is_symlink()}
    assert {p for p in after - before if not p.is_relative_to(tmp_path / "store")} == set()
    with open(tmp_path / "store" / "rejected.csv", newline="", encoding="utf-8") as file:
        reason = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert reason["bad/huge.jpg"] == f"{2**40} bytes: more than {2**30}"
    assert reason["bad/link to a pipe.jpg"] == "not a file"
    assert reason["bad/itself.jpg"] == "file cannot be read: Too many levels of symbolic links"
    assert reason["bad/circle"] == "a link to a folder, which is not followed"
    assert reason["bad/\\xff\\xfe.jpg"] == "the file's name is not UTF-8"


def test_a_file_name_does_not_break_the_line_of_a_message(tmp_path):
    (tmp_path / "in" / "a\nb").mkdir(parents=True)
    (tmp_path / "in" / "a\nb" / "\x1b[2J.jpg").write_bytes(b"no picture")
    done = _prepare(["folder", "--input", "in", "--output", "store"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("painterjax.prepare: error: no artist has two")
    assert "a\\nb/\\x1b[2J.jpg, not an image that can be read)" in done.stderr


@pytest.mark.parametrize("file", ["../secret.png", "x/../../secret.png", "/etc/passwd", "a\0b"])
def test_a_table_does_not_lead_out_of_its_folder(tmp_path, file):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(corpus.pictures()["png"])
    (tmp_path / "table.csv").write_text(f'file,artist\n"{file}",a\n')
    source = sources.csv_table(tmp_path / "table.csv", tmp_path / "in")
    with pytest.raises(images.ImageError, match="not the name"):
        source.load(source.paintings[0], 32)


@pytest.mark.parametrize("name", corpus.tables())
def test_a_malformed_table_is_refused_in_one_line_or_read(name, tmp_path):
    (tmp_path / "table.csv").write_bytes(corpus.tables()[name])
    try:
        source = sources.csv_table(tmp_path / "table.csv", tmp_path)
        assert len(source.paintings) + len(source.rejected) > 0
    except InputError as refusal:
        assert "\n" not in str(refusal)
        assert str(tmp_path / "table.csv") in str(refusal)


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({}), b"PK\3\4" + bytes(100)])
def test_vectors_of_anything_else_are_refused_without_advice_to_load_them(data, tmp_path):
    (tmp_path / "v.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"v\.npz .*painterjax\.embed: embed again$"):
        embeddings.load(tmp_path / "v.npz")


def test_a_damaged_dataset_json_is_refused_whatever_it_holds(tiny_store, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(tiny_store, place)
    text = (place / "dataset.json").read_text()
    names = ("format_version", "image_size", "counts", "sha256")
    for name, data in corpus.json_damages(text, 30):
        (place / "dataset.json").write_bytes(data)
        try:
            store.open_store(place)
        except InputError as refusal:
            assert "\n" not in str(refusal)
        else:
            kept = json.loads(data)
            assert all(kept[key] == json.loads(text)[key] for key in names[:2]), name


def test_a_wrong_value_of_any_type_is_refused_for_every_key():
    accepted, keys = 0, flatten(default.get_config().to_dict())
    for key in keys:
        for wrong in corpus.WRONG:
            config = copy.deepcopy(default.get_config())
            group, _, name = key.rpartition(".")
            holder = config[group] if group else config
            with holder.unlocked(), holder.ignore_type():
                holder[name] = wrong
            try:
                config_checks.check_keys(config)
                config_checks.check(config, image_size=256)
                accepted += 1
                assert not isinstance(wrong, bytes | dict) and wrong is not None, (key, wrong)
            except InputError as refusal:
                assert key in str(refusal), wrong
    assert 10 < accepted < len(keys) * len(corpus.WRONG) / 4


def test_damaged_papers_of_a_run_are_refused_in_one_line(run, tmp_path):
    place, few = tmp_path / "run", (
        b"[" * 100_000, b"[]", b"\xff", b'{"a": 1}', b'{"a.b": 1}', b"9" * 10_000,
    )  # fmt: skip
    shutil.copytree(run, place)
    for name in ("config.json", "dataset.json", "evaluation.json"):
        whole = (place / name).read_bytes()
        for data in few:
            (place / name).write_bytes(data)
            if name == "evaluation.json":
                assert load_run(place).calibration is None
                continue
            with pytest.raises(InputError, match=r"run|recipe|unknown") as refusal:
                load_run(place)
            assert "\n" not in str(refusal.value)
        (place / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "Expecting value"),
        (b"null", "it holds no object"),
        (b"\xff", "can't decode byte 0xff"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"epoch": 1, "split": "train", "loss": 1.0}', "it needs step, epoch and split"),
        (b'{"step": 1, "epoch": 1, "split": "train", "loss": null}', "and numbers"),
    ],
)
def test_a_line_of_the_metrics_that_is_no_record_is_named(line, reason, run, tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = (run / "metrics.jsonl").read_bytes()
    path.write_bytes(whole + line + b"\n")
    refusal = rf"metrics.jsonl, line 39, is no record \(.*{reason}.*\): delete that line or bring"
    with pytest.raises(InputError, match=refusal):
        metrics_log.read_records(tmp_path)
    with pytest.raises(InputError, match=refusal):
        metrics_log.MetricsLog(tmp_path, last_step=72)
    assert path.read_bytes() == whole + line + b"\n"


def test_lost_metrics_are_said_once(run, tmp_path, capsys):
    for kept, said in ((38, ""), (10, "ends with step 20: the records up to step 72 are lost")):
        lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines[:kept]))
        metrics_log.MetricsLog(tmp_path, last_step=72, recorded=72).close()
        told = capsys.readouterr().err
        assert said in told and bool(said) == bool(told)
