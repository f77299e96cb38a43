"""embed and search on a tiny run: files, interrupted work, queries, filters, and wrong usage."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from painterjax import embed, evaluate, prepare, search
from painterjax.common import checksums, files
from painterjax.common.errors import InputError
from painterjax.data import store, synthetic
from painterjax.index import lookup, opening
from painterjax.index.index import Index
from painterjax.index.pictures import picture, pixels
from painterjax.model.embedder import Embedder
from painterjax.run import embed as run_embed
from painterjax.run import embeddings
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.run.embed import kept_embeddings
from painterjax.run.load import load_run
from tests.helpers import tiny
from tests.helpers.tiny import ROOT


@pytest.fixture(scope="module")
def opened(run) -> store.Store:
    return store.open_store(run_folder.read_config(run).data.store)


@pytest.fixture(scope="module")
def pictures(opened, tmp_path_factory):
    """The store's test paintings as files in artists' folders, one of them damaged."""
    folder, split = tmp_path_factory.mktemp("pictures"), opened.splits["test"]
    for image_SxSxC, painting in zip(split.image_NxSxSxC, split.paintings, strict=True):
        path = folder / f"{painting.file}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image_SxSxC).save(path)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def embedded_pictures(run, pictures, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("embedded") / "pictures.npz"
    embed.main(["--run", str(run), "--images", str(pictures), "--workers", "1",
                "--output", str(path)])  # fmt: skip
    return path


def test_a_split_and_its_pictures_embed_alike(run, opened, embedded_pictures, tmp_path):
    split = _embedded(run, "test", tmp_path / "split.npz")
    files = embeddings.load(embedded_pictures)
    assert split.paintings == opened.splits["test"].paintings
    assert [p.artist for p in files.paintings] == [p.artist for p in split.paintings]
    # Float32, as RTOL in test_network.py; numbers are below 10.
    np.testing.assert_allclose(files.emb_NxD, split.emb_NxD, rtol=0, atol=1e-3)
    rejected = embedded_pictures.with_name("pictures.npz.rejected.csv").read_text()
    assert rejected == "file,reason\nbroken.jpg,not an image that can be read\n"
    step = json.loads((run / "evaluation.json").read_text())["step"]
    assert split.origin["step"] == files.origin["step"] == step
    assert not embedded_pictures.with_name("pictures.npz.partial").exists()


@pytest.mark.slow
def test_a_killed_embed_goes_on_and_ends_alike(run, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(600):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    argv = ["--run", str(run), "--images", str(folder), "--workers", "1", "--output"]
    process = subprocess.Popen(
        [sys.executable, "-m", "painterjax.embed", *argv, str(tmp_path / "killed.npz")],
        cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journal = tmp_path / "killed.npz.partial" / "decoded.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert journal.exists(), "it ended before it could be killed"
    shutil.copy(folder / "599.png", folder / "000a.png")  # The folder has changed since.
    (folder / "001.png").unlink()
    for name in ("killed", "undisturbed"):
        embed.main([*argv, str(tmp_path / f"{name}.npz")])
    killed, undisturbed = (
        embeddings.load(tmp_path / f"{name}.npz") for name in ("killed", "undisturbed")
    )
    assert killed.paintings == undisturbed.paintings
    assert [p.file for p in killed.paintings[:3]] == ["000.png", "000a.png", "002.png"]
    assert killed.sha256 == undisturbed.sha256
    np.testing.assert_array_equal(killed.emb_NxD, undisturbed.emb_NxD)


def test_a_killed_embedding_of_a_store_goes_on_and_ends_alike(run, tmp_path, monkeypatch):
    copy, real, embedded = tmp_path / "run", Embedder.embed, []
    most = [24, 16, 99]  # of 36, 12 and 16 paintings: killed within the first and the second split
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index", "embeddings"))
    opened = load_run(copy)
    embedder = dataclasses.replace(opened.embedder, batch_size=4)
    in_fours = dataclasses.replace(opened, embedder=embedder)

    def killed(self, image_NxSxSxC, progress=None):
        if sum(embedded) >= most[0]:
            raise KeyboardInterrupt
        embedded.append(len(image_NxSxSxC))
        return real(self, image_NxSxSxC, progress)

    monkeypatch.setattr(Embedder, "embed", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            opening.own_index(in_fours)
        assert sum(embedded) == most.pop(0)
        embedded.clear()
    index = opening.own_index(in_fours)
    assert sum(embedded) == 64 - 24 - 16
    expected_NxD = real(embedder, np.load(in_fours.store.path / "images.npy"))
    np.testing.assert_array_equal([index.embedding(i) for i in range(64)], expected_NxD)
    assert not (copy / "index.partial").exists()


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"network_sha256": "x"}, r"v\.npz .*network_sha256 is x"),
        ({"images": "tests"}, r"v\.npz is of the images of tests"),
        ({}, r"v\.npz holds a split of a store"),
    ],
)
def test_vectors_of_something_else_are_not_embedded_over(run, pictures, origin, message, tmp_path):
    path = tmp_path / "v.npz"
    split = _embedded(run, "val", path)
    embeddings.save(path, dataclasses.replace(split, origin={**split.origin, **origin}))
    with pytest.raises(InputError, match=message):
        embed.main(["--run", str(run), "--images", str(pictures), "--output", str(path)])
    if not origin.keys() & {"network_sha256"}:
        return
    with pytest.raises(InputError, match=f"--add .*{message}"):
        search.main(["--run", str(run), "--index", str(tmp_path / "index"), "--add", str(path)])
    assert not (tmp_path / "index").exists()


def test_a_run_that_was_trained_anew_has_other_vectors(run, pictures, tmp_path, monkeypatch):
    """With the same config to the same step at the same path, as on another store of that name."""
    copy, path = tmp_path / "run", tmp_path / "v.npz"
    shutil.copytree(run, copy)
    embed.main(["--run", str(copy), "--images", str(pictures), "--output", str(path)])
    before = load_run(copy)
    assert kept_embeddings(before, "test") and before.calibration and len(opening.own_index(before))
    restore = Checkpoints.restore_network

    def trained_anew(checkpoints, params, stats):
        params, stats, step = restore(checkpoints, params, stats)
        return jax.tree.map(lambda x: x + 1e-3, params), stats, step

    monkeypatch.setattr(Checkpoints, "restore_network", trained_anew)
    after = load_run(copy)
    assert (after.step, after.config) == (before.step, before.config)
    assert kept_embeddings(after, "test") is None and after.calibration is None
    with pytest.raises(InputError, match=r"v\.npz is of another network \(network_sha256"):
        embed.main(["--run", str(copy), "--images", str(pictures), "--output", str(path)])
    anew = opening.own_index(after)
    assert anew.facts["network_sha256"] == after.origin["network_sha256"]


def test_vectors_in_parquet_serve_as_those_in_npz_do(
    run, pictures, embedded_pictures, tmp_path, monkeypatch
):
    """Of a split, and of a folder, whose images are not embedded again."""
    one, other = (_embedded(run, "test", tmp_path / f"test.{end}") for end in ("npz", "parquet"))
    np.testing.assert_array_equal(one.emb_NxD, other.emb_NxD)
    assert (one.paintings, one.origin) == (other.paintings, other.origin)
    search.main(["--run", str(run), "--index", str(tmp_path / "index"),
                 "--add", str(tmp_path / "test.parquet"), "--query", "0"])  # fmt: skip
    assert len(Index(tmp_path / "index")) == len(one.paintings)
    argv = ["--run", str(run), "--images", str(pictures), "--workers", "1"]
    for _ in range(2):
        embed.main([*argv, "--output", str(tmp_path / "pictures.parquet")])
        monkeypatch.setattr(Embedder, "embed", None)  # What is there already serves again.
    one, other = map(embeddings.load, (embedded_pictures, tmp_path / "pictures.parquet"))
    np.testing.assert_array_equal(one.emb_NxD, other.emb_NxD)
    assert (one.paintings, one.sha256) == (other.paintings, other.sha256)
    with pytest.raises(InputError, match=r"v\.csv: its name must end in \.npz or \.parquet"):
        _embedded(run, "test", tmp_path / "v.csv")


def test_a_repeated_embed_reads_only_files_that_changed_in_size_or_time(
    run, pictures, tmp_path, monkeypatch
):
    folder, output = tmp_path / "pictures", tmp_path / "v.npz"
    shutil.copytree(pictures, folder)
    found = sorted(folder.rglob("*.png"))
    for path in found:  # An hour ago.
        changed_ns = path.stat().st_mtime_ns - 3600 * 10**9
        os.utime(path, ns=(changed_ns, changed_ns))
    argv = ["--run", str(run), "--images", str(folder), "--workers", "1", "--output", str(output)]
    embed.main(argv)
    before, hashed = embeddings.load(output), []
    sha256 = checksums.sha256
    monkeypatch.setattr(checksums, "sha256", lambda path: hashed.append(path) or sha256(path))
    found[0].touch()
    shutil.copy(found[2], found[1])
    embed.main(argv)
    assert {path for path in hashed if path.is_relative_to(folder)} == {*found[:2]}
    after = embeddings.load(output)
    assert after.sha256 is not None and before.sha256 is not None
    changed = [
        i
        for i, pair in enumerate(zip(before.sha256, after.sha256, strict=True))
        if len({*pair}) > 1
    ]
    assert [folder / before.paintings[i].file for i in changed] == [found[1]]


def _embedded(run: Path, split: str, path: Path) -> embeddings.Vectors:
    embed.main(["--run", str(run), "--split", split, "--output", str(path)])
    return embeddings.load(path)


@pytest.fixture
def found(run, tmp_path) -> Callable[..., list[dict[str, Any]]]:
    """Returns what a search with some flags finds."""

    def search_with(*flags: object) -> list[dict[str, Any]]:
        search.main(["--run", str(run), "--json", str(tmp_path / "found.json"), *map(str, flags)])
        return json.loads((tmp_path / "found.json").read_text())

    return search_with


def test_search_finds_others_than_the_painting_itself(pictures, opened, found, capsys, tmp_path):
    """Not by its name, and not by a file that has its pixels; a file with others finds it."""
    painting = opened.splits["test"].paintings[3]
    picture = pictures / f"{painting.file}.png"
    by_file = found("--k", 4, "--query", picture)
    assert f"near {painting.artist}" in capsys.readouterr().out
    pixels = np.array(Image.open(picture))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "changed.png")
    results = found("--k", 4, "--query", tmp_path / "changed.png")
    assert results[0]["file"] == painting.file
    assert results[0]["distance"] < 1e-2
    distances, probabilities = (
        [result[key] for result in results] for key in ("distance", "probability")
    )
    assert distances == sorted(distances)
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(0 <= probability <= 1 for probability in probabilities)
    with Image.open(results[0]["image"]) as image:
        np.testing.assert_array_equal(np.asarray(image), opened.splits["test"].image_NxSxSxC[3])
    assert painting.artist in capsys.readouterr().out
    others = found("--k", 4, "--query", painting.file)
    assert [result["id"] for result in others] == [result["id"] for result in by_file]
    assert [result["id"] for result in others[:3]] == [result["id"] for result in results[1:]]
    by_others = found("--k", 4, "--query", results[0]["id"], "--other-artists")
    assert len(by_others) == 4
    assert painting.artist not in {result["artist"] for result in by_others}


def test_an_index_of_pictures_names_their_files(pictures, embedded_pictures, found, capsys):
    flags = ["--index", embedded_pictures.with_name("index"), "--query", 0, "--k", 1]
    add = ["--add", embedded_pictures]
    found(*flags, *add)
    assert "16 paintings (16 added), exact" in capsys.readouterr().out
    (result,) = found(*flags, *add)
    assert "16 paintings (0 added, 16 present before), exact" in capsys.readouterr().out
    assert result["image"] == str(pictures / result["file"])
    found(*flags, "--artist", result["artist"].upper())
    query, painters, answer = capsys.readouterr().out.splitlines()[-3:]
    assert re.match(
        r"painted by painter-\d+ \d+ % \(\d paintings\), .*, someone else \d+ %$", painters
    )
    first, *_ = embeddings.load(embedded_pictures).paintings
    assert query.endswith(f"near {first.artist} - {first.title}  (0: {pictures / first.file})")
    assert answer.endswith(f"({result['id']}: {result['image']})")
    hidden = (pictures / result["file"]).rename(pictures.with_name("hidden"))
    found(*flags)
    hidden.rename(pictures / result["file"])
    *_, answer = capsys.readouterr().out.splitlines()
    assert answer.endswith(f"{result['image']}, which is missing)")


def test_filters_ignore_case_and_suggest_values(run, found, tmp_path, capsys):
    plain = _embedded(run, "test", tmp_path / "test.npz")
    styles = ("Early Renaissance", "High Renaissance", "Rococo", "Cubism", "Op Art", "Pop Art")
    styled = [
        dataclasses.replace(painting, style=styles[i % 6], date=str(1601 + 20 * i))
        for i, painting in enumerate(plain.paintings)
    ]
    embeddings.save(tmp_path / "styled.npz", dataclasses.replace(plain, paintings=styled))
    flags = ["--index", tmp_path / "index", "--query", 0]
    found(*flags, "--add", tmp_path / "styled.npz")
    for filters, message in (
        (["--style", "renaissance"], "'renaissance': try Early Renaissance, High Renaissance$"),
        (["--style", "cubsim"], "style 'cubsim': try Cubism$"),
        (["--style", "xyz"], "Cubism, Early Renaissance, .*, Pop Art and 1 more"),
        (["--artist", "painter-09"], r"try painter-\d+"),
        (["--century", "1800-1900"], "try 1801-1900"),
    ):
        with pytest.raises(InputError, match=message):
            found(*flags, *filters)
    dates = {r["date"] for r in found(*flags, "--style", "cubism", "--century", "1701-1800")}
    assert dates == {"1781"}
    assert found(*flags, "--style", "op art", "--century", "1801-1900")
    results = found(*flags, "--style", "Rococo", "--century", "1601-1700")
    assert {result["style"] for result in results} == {"Rococo"}
    assert found(*flags, "--style", "Op Art", "--century", "1701-1800") == []
    assert "no painting of the index fits these filters" in capsys.readouterr().out


def test_a_run_works_from_any_folder(run, tiny_store, tmp_path, monkeypatch):
    """Its config has the store's path relative; another store lies there as well."""
    began, elsewhere, copy = tmp_path / "began", tmp_path / "elsewhere", tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.copytree(tiny_store, began / "data")
    elsewhere.mkdir()
    data = {**json.loads((run / "config.json").read_text())["data"], "store": "data"}
    for name, change in (("config", {"data": data}), ("environment", {"directory": str(began)})):
        content = json.loads((copy / f"{name}.json").read_text())
        (copy / f"{name}.json").write_text(json.dumps({**content, **change}))
    monkeypatch.chdir(elsewhere)
    argv = ["--run", "../run", "--query", "1", "--k", "1", "--json", "found.json"]
    search.main(argv)
    assert Path(json.loads(Path("found.json").read_text())[0]["image"]).is_absolute()
    prepare.main([*tiny.STORE, "--seed", "1", "--output", "data"])
    assert run_folder.open_store_of(Path("../run")).path == began / "data"
    began.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="dataset"):
        run_folder.open_store_of(Path("../run"))
    shutil.rmtree("data")
    with pytest.raises(InputError, match=r"no store at data nor at .*began/data"):
        run_folder.open_store_of(Path("../run"))
    shutil.rmtree("../run/index/thumbnails")
    search.main(argv)  # The vectors are there.
    monkeypatch.chdir(tmp_path / "moved")
    search.main(argv)
    assert Path(json.loads(Path("found.json").read_text())[0]["image"]).exists()


def test_the_run_s_own_index_holds_its_store_alone(run, tmp_path, monkeypatch):
    """Nothing can be added to it, and it is built again if something was."""
    copy, real, embedded = tmp_path / "run", Embedder.embed, []
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index"))
    monkeypatch.setattr(Embedder, "embed", lambda self, image_NxSxSxC, *rest: embedded.append(
        len(image_NxSxSxC)) or real(self, image_NxSxSxC, *rest))  # fmt: skip
    argv = ["--run", str(copy), "--query", "0", "--k", "1"]
    search.main(argv)
    assert embedded == []  # evaluate has kept those of all splits
    more = _embedded(run, "val", tmp_path / "val.npz")
    with pytest.raises(InputError, match="own index"):
        search.main([*argv, "--index", f"{copy}/./index", "--add", str(tmp_path / "val.npz")])
    more = dataclasses.replace(more, emb_NxD=-more.emb_NxD)
    for strange in (more, dataclasses.replace(more, origin={**more.origin, "images": "x"})):
        assert Index(copy / "index").add(strange) == 12
        search.main(argv)
        assert len(Index(copy / "index")) == 64


def test_of_two_that_build_a_run_s_index_the_second_takes_that_of_the_first(
    run, tmp_path, monkeypatch
):
    """Or is refused, while the first still builds it."""
    copy, claimed = tmp_path / "run", files.claimed
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("index"))
    opened, built = load_run(copy), []
    with claimed(copy / "index.partial"):
        (copy / "index.partial" / "index").mkdir()
        with pytest.raises(InputError, match=r"another process works in .*index.partial: wait"):
            opening.own_index(opened)
        assert (copy / "index.partial" / "index").exists()

    def claimed_late(folder: Path) -> contextlib.AbstractContextManager[None]:
        monkeypatch.undo()
        opening.own_index(opened)  # As the first process does.
        built.extend(_versions(copy / "index"))
        return claimed(folder)

    monkeypatch.setattr(files, "claimed", claimed_late)
    assert len(opening.own_index(opened)) == 64
    assert built == _versions(copy / "index") != []
    assert not (copy / "index.partial").exists()


def _versions(folder: Path) -> list[tuple[str, int, int]]:
    """Each file with its inode and the time of its last change."""
    found = [(path, path.stat()) for path in sorted(folder.iterdir())]
    return [(path.name, stat.st_ino, stat.st_mtime_ns) for path, stat in found]


def test_vectors_of_any_origin_are_judged_as_a_run_is(run, opened, tmp_path):
    """The run's own vectors, by file and by order, end in the run's own figures."""
    expected = json.loads((run / "evaluation.json").read_text())["test"]
    np.save(tmp_path / "test.npy", _embedded(run, "test", tmp_path / "test.npz").emb_NxD)
    _embedded(run, "test", tmp_path / "test.parquet")
    for name in ("test.npz", "test.parquet", "test.npy"):
        argv = ["--embeddings", str(tmp_path / name), "--store", str(opened.path)]
        evaluate.main([*argv, "--json", str(tmp_path / "out.json")])
        judged = json.loads((tmp_path / "out.json").read_text())
        assert judged.keys() == {"test"}
        for metric in ("recall_at_1", "recall_at_5", "map_at_r", "r_precision", "pair_roc_auc"):
            assert judged["test"][metric] == expected[metric]


def test_vectors_of_as_many_paintings_as_val_and_test_have_need_a_split(tmp_path, capsys):
    prepare.main([*tiny.STORE, "--output", str(tmp_path / "store"), "--artists", "10"])
    splits = store.open_store(tmp_path / "store").splits
    count = len(splits["test"])
    assert len(splits["val"]) == count
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(count, 4)))
    argv = ["--embeddings", str(tmp_path / "x.npy"), "--store", str(tmp_path / "store")]
    with pytest.raises(InputError, match=f"{count} vectors.*--split"):
        evaluate.main(argv)
    evaluate.main([*argv, "--split", "test"])
    assert "artists never seen" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((5, 3)), "5 vectors, .* 36 in train, 12 in val, 16 in test"),
        (np.zeros(16), r"float64 \(16,\)"),
        (np.full((16, 3), np.nan), "finite"),
        (np.zeros((16, 0)), r"float64 \(16, 0\)"),
        (np.array([{}]), "cannot be read"),
    ],
)
def test_other_vectors_are_refused_in_one_line(opened, rows, message, tmp_path):
    np.save(tmp_path / "x.npy", rows, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        evaluate.main(["--embeddings", str(tmp_path / "x.npy"), "--store", str(opened.path)])


@pytest.mark.parametrize(
    ("command", "argv"),
    [(search, ["--run", "x", "--query", "0"]), (evaluate, ["--run", "nowhere"])],
)
def test_a_json_that_cannot_be_written_is_refused_before_any_work(command, argv, tmp_path):
    for path, message in ((tmp_path / "no" / "x.json", "does not exist"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=f"--json is .*{message}"):
            command.main([*argv, "--json", str(path)])


@pytest.mark.parametrize(
    ("command", "argv", "message"),
    [
        (search, ["--query", "nowhere.jpg"], "--query nowhere.jpg"),
        (search, ["--query", "999999"], "999999"),
        (search, ["--query", "0", "--k", "0"], "--k is 0"),
        (search, [], "--query or --add"),
        (search, ["--add", "x.npz"], "--add needs --index"),
        (search, ["--query", "TEXT"], "TEXT: not an image"),
        (search, ["--query", "TEXT", "--index", "nowhere"], "--index nowhere"),
        (search, ["--index", "x", "--add", "TEXT"], "TEXT was not written by painterjax.embed"),
        (search, ["--index", "x", "--add", "nowhere"], "nowhere cannot be read"),
        (embed, ["--split", "test", "--output", "x.csv"], r"x\.csv.*\.npz"),
        (embed, ["--output", "x.npz"], "--images --split"),
        (embed, ["--images", "nowhere", "--output", "x.npz"], "nowhere"),
        (embed, ["--images", "EMPTY", "--output", "x.npz"], "EMPTY"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(run, command, argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT").write_text("no picture")
    with pytest.raises(InputError, match=message) as refusal:
        command.main(["--run", str(run), *argv])
    assert "\n" not in str(refusal.value)


def test_why_a_painting_was_found_is_drawn(run, tmp_path):
    argv = ["--run", str(run), "--query", "50", "--k", "3", "--why"]
    search.main([*argv, str(tmp_path / "why.png")])
    with Image.open(tmp_path / "why.png") as image:
        assert min(image.size) > 300
    opened = load_run(run)
    index = opening.own_index(opened)
    query = lookup.parse_query("50", index, opened)
    found_Px2xSxSxC, shown = lookup.pairs(opened, index, query, [3, 7])
    expected = [pixels(opened, index, index.entry(number)) for number in (50, 3, 7)]
    for pair, second in zip(found_Px2xSxSxC, expected[1:], strict=True):
        np.testing.assert_array_equal(pair, np.array([expected[0], second]))
    whole = [picture(opened, index, index.entry(number)) for number in (50, 3, 7)]
    assert shown == [(whole[0], whole[1]), (whole[0], whole[2])]
    with pytest.raises(InputError, match=r"its name must end in \.png"):
        search.main([*argv, str(tmp_path / "why.jpg")])


def test_a_wide_picture_is_the_mean_of_squares_all_along_it(run, tmp_path, capsys):
    """In a folder's vectors and as a query of these; a store's index has center squares."""
    folder, network = tmp_path / "wide", load_run(run).embedder
    pixels = [
        np.hstack([synthetic.paint(seed=5, artist=a, painting=p, size=32) for a in (0, 1)])
        for p in range(3)
    ]
    (folder / "someone").mkdir(parents=True)
    for number, pixels_HxWxC in enumerate(pixels):
        Image.fromarray(pixels_HxWxC).save(folder / "someone" / f"{number}.png")
    argv = ["--run", str(run), "--workers", "1", "--images", str(folder)]
    embed.main([*argv, "--output", str(tmp_path / "wide.npz")])
    found = embeddings.load(tmp_path / "wide.npz")
    for emb_D, pixels_HxWxC in zip(found.emb_NxD, pixels, strict=True):
        squares = np.stack([pixels_HxWxC[:, start : start + 32] for start in (0, 16, 32)])
        square_KxD = network.embed(squares)
        mean_D = square_KxD.mean(0)
        mean_D *= np.linalg.norm(square_KxD, axis=1).mean() / np.linalg.norm(mean_D)
        # The same network in batches of other squares, whose sums round as they come.
        np.testing.assert_allclose(emb_D, mean_D, rtol=1e-4, atol=1e-5)
    index = tmp_path / "index"
    search.main(["--run", str(run), "--index", str(index), "--add", str(tmp_path / "wide.npz")])
    query = str(folder / "someone" / "1.png")
    capsys.readouterr()
    search.main(["--run", str(run), "--index", str(index), "--query", query])
    assert "near someone - 1" in capsys.readouterr().out  # It is that painting.
    of_store = lookup.parse_query(query, opening.own_index(load_run(run)), load_run(run))
    center_D = network.embed(pixels[1][None, :, 16:48])[0]
    np.testing.assert_allclose(of_store.emb_D, center_D, rtol=1e-4, atol=1e-5)
    # What was embedded by center squares is embedded again.
    centers = tmp_path / "centers.npz"
    opened, directory = load_run(run), folder
    before, _ = run_embed.embed_folder(opened, directory, centers, workers=1, squares=1)
    after, _ = run_embed.embed_folder(opened, directory, centers, workers=1)
    np.testing.assert_array_equal(after.emb_NxD, found.emb_NxD)
    assert np.abs(before.emb_NxD - after.emb_NxD).max() > 1e-3
