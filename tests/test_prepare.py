"""prepare, as its users call it: sources, rejected files, interruptions, and wrong usage."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.data import catalog, store, synthetic

SIZE = 32


def _prepare(*argv: str | Path) -> store.Store:
    prepare.main([*map(str, argv), "--image-size", str(SIZE), "--workers", "1"])
    return store.open_store(argv[argv.index("--output") + 1])


def _save(path: Path, *, artist: int, painting: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = synthetic.paint(seed=0, artist=artist, painting=painting, size=SIZE)
    Image.fromarray(pixels).save(path, "PNG")


def _files(store_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store_path.iterdir()}


def _rejected(store_path: Path) -> dict[str, str]:
    with open(store_path / "rejected.csv", newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture
def gallery(tmp_path) -> Path:
    """Four artists with three paintings each, and everything that goes wrong with files."""
    folder = tmp_path / "gallery"
    for artist, painting in np.ndindex(4, 3):
        _save(folder / f"artist {artist}" / f"No. {painting}.png", artist=artist, painting=painting)
    shutil.copy(folder / "artist 0" / "No. 0.png", folder / "artist 1" / "copy.png")
    _save(folder / "lonely" / "only.png", artist=9, painting=0)
    (folder / "artist 2" / "empty.jpg").touch()
    (folder / "artist 2" / "page.jpg").write_text("<html>not found</html>")
    (folder / "artist 2" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "artist 2" / "circle").symlink_to(folder)
    (folder / "artist 2" / ".hidden").write_text("of a file manager")
    os.rename(folder / "artist 3" / "No. 0.png", folder / "artist 3" / "No. 0.jpg")
    _save(folder / "stray.png", artist=8, painting=0)
    return folder


def test_a_folder_becomes_a_store(gallery, tmp_path):
    made = _prepare("folder", "--input", gallery, "--output", tmp_path / "store")
    assert _rejected(made.path) == {
        "artist 1/copy.png": "the same bytes as artist 0/No. 0.png",
        "artist 2/circle": "a link to a folder, which is not followed",
        "artist 2/dangling.jpg": "file is missing",
        "artist 2/empty.jpg": "empty file",
        "artist 2/page.jpg": "not an image that can be read",
        "lonely/only.png": "the artist's only painting",
        "stray.png": "not in an artist's folder",
    }
    assert made.info["counts"] == {
        "files": 19,
        "rejected": 7,
        "train": {"paintings": 9, "artists": 3},
        "val": {"paintings": 0, "artists": 0},
        "test": {"paintings": 3, "artists": 1},
    }
    for split in made.splits.values():
        for image_SxSxC, painting in zip(split.image_NxSxSxC, split.paintings, strict=True):
            artist, number = painting.artist.split()[1], painting.title.split()[1]
            expected = synthetic.paint(seed=0, artist=int(artist), painting=int(number), size=SIZE)
            np.testing.assert_array_equal(image_SxSxC, expected)


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_table_becomes_a_store(gallery, tmp_path):
    rows = [
        {"file": f"artist {a}/No. {p}.png", "artist": f"Painter {a}, “P”", "style": "Dots"}
        for a, p in np.ndindex(3, 3)
    ]
    rows += [{"file": "artist 3/missing.png", "artist": "x", "style": ""}]
    rows += [{"file": "artist 3/No. 1.png", "artist": "", "style": ""}]
    _write_csv(tmp_path / "list.csv", rows)
    made = _prepare(
        "csv", "--input", tmp_path / "list.csv", "--images", gallery, "--output", tmp_path / "store"
    )
    assert _rejected(made.path) == {
        "artist 3/missing.png": "file is missing",
        "artist 3/No. 1.png": "no artist in the table",
    }
    paintings = [p for split in made.splits.values() for p in split.paintings]
    assert len(paintings) == 9
    assert {p.artist for p in paintings} == {f"Painter {a}, “P”" for a in range(3)}
    assert {p.style for p in paintings} == {"Dots"}


@pytest.mark.parametrize("table", ["all_data_info.csv", "train_info.csv"])
def test_the_competition_s_files_become_a_store(tmp_path, table):
    rows, whole = [], table == "all_data_info.csv"
    for number, (artist, painting) in enumerate(np.ndindex(3, 2)):
        folder = "test" if whole and painting else "train"
        _save(tmp_path / folder / f"{number}.jpg", artist=artist, painting=painting)
        row = {"artist": f"{artist}", "title": f"Work, {number}", "style": "s", "genre": "g"}
        if whole:
            row |= {"new_filename": f"{number}.jpg", "in_train": str(folder == "train")}
            row |= {"pixelsx": "32.0", "artist_group": "train_only", "date": "c.1645"}
        else:
            row |= {"filename": f"{number}.jpg", "date": "ific"}
        rows.append(row)
    _write_csv(tmp_path / table, rows)
    made = _prepare("kaggle", "--input", tmp_path, "--output", tmp_path / "store")
    paintings = [p for split in made.splits.values() for p in split.paintings]
    assert _rejected(made.path) == {}
    assert sorted(p.title for p in paintings) == [f"Work, {i}" for i in range(6)]
    assert {p.date for p in paintings} == {"c.1645" if whole else "ific"}


SYNTHETIC = ["synthetic", "--artists", "8", "--paintings", "20", "--image-size", str(SIZE)]


def _start(output: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "painterjax.prepare", *SYNTHETIC, "--output", str(output)]
    command += ["--workers", "2", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare.main([*SYNTHETIC, "--output", str(path), "--workers", "1"])
    return path


@pytest.mark.parametrize(
    ("signal_number", "exit_code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)],
)
def test_interrupted_and_run_again_it_ends_with_the_same_bytes(
    undisturbed, tmp_path, signal_number, exit_code
):
    journal = tmp_path / "store.partial" / "decoded.jsonl"
    process = _start(tmp_path / "store")
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    if signal_number == signal.SIGINT:
        os.killpg(process.pid, signal_number)  # A terminal sends Ctrl-C to the workers as well.
    else:
        process.send_signal(signal_number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == exit_code
    if signal_number != signal.SIGKILL:
        word = "interrupted" if signal_number == signal.SIGINT else "terminated"
        assert said.splitlines()[-1] == f"painterjax.prepare: {word}; run it again to go on"
        assert "Traceback" not in said
    assert not (tmp_path / "store").exists()
    done = len(journal.read_text().splitlines())
    assert 0 < done < 160
    with open(journal, "ab") as file:
        file.write(b'{"file": "cut sho')  # A kill in the middle of a line.

    again = _start(tmp_path / "store")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0
    assert f"prepare: {done} of 160 paintings" in said
    assert _files(tmp_path / "store") == _files(undisturbed)
    assert not (tmp_path / "store.partial").exists()


LIMITING = """
import resource, sys
if "--multiprocessing-fork" in sys.orig_argv:
    resource.setrlimit(resource.RLIMIT_AS, (400 * 2**20, 400 * 2**20))
"""


def test_a_worker_without_memory_ends_in_one_line(tmp_path):
    """6,000 x 6,000 pixels with transparency do not fit into 400 MB."""
    image = Image.new("RGBA", (6000, 6000))
    (tmp_path / "paintings" / "an artist").mkdir(parents=True)
    image.save(tmp_path / "paintings" / "an artist" / "large.png", compress_level=1)
    # sitecustomize is read by every Python that starts, the workers as well.
    (tmp_path / "sitecustomize.py").write_text(LIMITING)
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[1])))
    command = [sys.executable, "-m", "painterjax.prepare", "folder", "--workers", "2"]
    command += ["--input", str(tmp_path / "paintings"), "--output", str(tmp_path / "store")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    refusal = "painterjax.prepare: error: a worker ran out of memory: use fewer --workers"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, refusal)
    assert "Traceback" not in done.stderr


def test_any_number_of_workers_makes_the_same_store(undisturbed, tmp_path):
    prepare.main([*SYNTHETIC, "--output", str(tmp_path / "3"), "--workers", "3"])
    assert _files(tmp_path / "3") == _files(undisturbed)


def test_a_second_time_it_checks_and_says_so(tmp_path, capsys):
    command = [*SYNTHETIC[:2], "3", *SYNTHETIC[3:], "--output", str(tmp_path / "store")]
    prepare.main(command)
    prepare.main(command)
    assert "is whole already" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"another store \(seed is 0, asked for 1\)"):
        prepare.main([*command, "--seed", "1"])
    with open(tmp_path / "store" / "rejected.csv", "a") as file:
        file.write("x,y\n")
    with pytest.raises(InputError, match=r"rejected.csv is not what prepare wrote"):
        prepare.main(command)


@pytest.mark.usefixtures("no_workers")
def test_a_store_of_files_that_changed_under_their_names_is_another(gallery, tmp_path, capsys):
    command = ["folder", "--input", gallery, "--output", tmp_path / "store"]
    _prepare(*command)
    changed = gallery / "artist 2" / "No. 0.png"
    os.utime(changed, (0, 0))  # As copies for other machines have it.
    _prepare(*command)
    assert "is whole already, of files with these names and sizes" in capsys.readouterr().out
    _save(changed, artist=7, painting=7)
    with pytest.raises(InputError, match=r"is another store \(sizes_sha256 is .*choose another"):
        _prepare(*command)


@pytest.mark.usefixtures("no_workers")
def test_artists_of_a_table_are_told_by_their_names_without_the_spaces_around(gallery, tmp_path):
    names = (" A", "A ", "A", " ")
    rows = [{"file": f"artist {a}/No. 1.png", "artist": name} for a, name in enumerate(names)]
    _write_csv(tmp_path / "list.csv", rows)
    made = _prepare(
        "csv", "--input", tmp_path / "list.csv", "--images", gallery, "--output", tmp_path / "store"
    )
    assert {artist for split in made.splits.values() for artist in split.artists} == {"A"}
    assert _rejected(made.path) == {"artist 3/No. 1.png": "no artist in the table"}


def test_a_folder_that_is_in_the_way_is_kept(tmp_path):
    command = [*SYNTHETIC[:2], "3", *SYNTHETIC[3:], "--output", str(tmp_path / "store")]
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "letter.txt").touch()
    with pytest.raises(InputError, match="holds other files: move it or delete it"):
        prepare.main(command)
    (tmp_path / "store.partial").rename(tmp_path / "aside")
    prepare.main(command)
    (tmp_path / "aside").rename(tmp_path / "store.partial")
    prepare.main(command)
    assert (tmp_path / "store.partial" / "letter.txt").exists()


def test_a_second_process_in_the_same_folder_is_refused(tmp_path):
    first = _start(tmp_path / "store")
    while not (tmp_path / "store.partial" / "decoded.jsonl").exists() and first.poll() is None:
        time.sleep(0.01)
    with pytest.raises(InputError, match="another process works in"):
        prepare.main([*SYNTHETIC, "--output", str(tmp_path / "store")])
    first.communicate(timeout=120)
    assert first.returncode == 0


def test_a_store_begun_otherwise_is_not_mixed_up(tmp_path):
    partial = tmp_path / "store.partial"
    partial.mkdir()
    (partial / "plan.json").write_text(json.dumps({"source": "folder", "image_size": 64}))
    with pytest.raises(InputError, match=r"other options \(source was folder, is synthetic"):
        prepare.main([*SYNTHETIC, "--output", str(tmp_path / "store")])


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("count", [1, 3, 20])
def test_shards_merge_into_the_bytes_of_one_run(gallery, tmp_path, count):
    command = ["folder", "--input", gallery, "--output"]
    _prepare(*command, tmp_path / "one")
    argv = [*map(str, [*command, tmp_path / "store"]), "--image-size", str(SIZE)]
    for number in range(count, 0, -1):
        prepare.main([*argv, "--shard", f"{number}/{count}"])
    partial = tmp_path / "store.partial"
    decoded = [len(path.read_text().splitlines()) for path in partial.glob("*/decoded.jsonl")]
    assert len(decoded) == count and sum(decoded) == 17 and max(decoded) <= 17 // count + 1
    prepare.main(argv)
    assert _files(tmp_path / "store") == _files(tmp_path / "one")
    assert "artist 1/copy.png" in _rejected(tmp_path / "store")  # In the second shard of three.
    assert not partial.exists()


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_an_interrupted_shard_goes_on(undisturbed, tmp_path, sent, status):
    command, shard = [*SYNTHETIC, "--output", str(tmp_path / "store")], ["--shard", "2/2"]
    journal = tmp_path / "store.partial" / "shard-2-of-2" / "decoded.jsonl"
    process = _start(tmp_path / "store", *shard)
    while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    with pytest.raises(InputError, match=r"another process works in .*store.partial: wait"):
        prepare.main(command)
    with pytest.raises(InputError, match=r"another process works in .*shard-2-of-2: wait"):
        prepare.main([*command, *shard])
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in said
    done = len(journal.read_text().splitlines())
    assert 0 < done < 80
    prepare.main([*command, "--shard", "1/2"])
    with pytest.raises(InputError, match=r"1 of the 2 shards in .* repeat this with --shard 2/2"):
        prepare.main(command)
    assert len(journal.read_text().splitlines()) == done
    prepare.main([*command, *shard])
    prepare.main(command)
    assert _files(tmp_path / "store") == _files(undisturbed)


def _shard(output: Path, shard: str, *more: str) -> list[str]:
    argv = ["synthetic", "--artists", "3", "--paintings", "2", "--image-size", str(SIZE)]
    return [*argv, "--output", str(output), "--shard", shard, *more]


@pytest.mark.usefixtures("no_workers")
def test_shards_of_other_plans_are_not_mixed_up(tmp_path):
    output, partial = tmp_path / "store", tmp_path / "store.partial"
    prepare.main(_shard(output, "1/3"))
    with pytest.raises(InputError, match=r"other options \(shards was 3, is 4\)"):
        prepare.main(_shard(output, "2/4"))
    with pytest.raises(InputError, match=r"other options \(seed was 0, is 1, listing_sha256"):
        prepare.main(_shard(output, "2/3", "--seed", "1", "--artists", "4"))
    # Of two that begin at once neither sees the other.
    prepare.main(_shard(tmp_path / "other", "2/3", "--seed", "1"))
    (tmp_path / "other.partial" / "shard-2-of-3").rename(partial / "shard-2-of-3")
    with pytest.raises(InputError, match=r"other options \(seed was 1, is 0\)"):
        prepare.main(_shard(output, "3/3"))
    with pytest.raises(InputError, match=r"other options \(seed was 1, is 0\)"):
        prepare.main(_shard(output, "3/3")[:-2])
    shutil.rmtree(partial / "shard-2-of-3")
    with pytest.raises(InputError, match=r"2 of the 3 shards .* with --shard 2/3, 3/3 first"):
        prepare.main(_shard(output, "3/3")[:-2])


@pytest.mark.usefixtures("no_workers")
def test_a_shard_keeps_out_of_a_folder_that_is_another_s(tmp_path):
    output, partial = tmp_path / "store", tmp_path / "store.partial"
    files.begin_work(partial, {"source": "synthetic"})
    with pytest.raises(InputError, match="begun without --shard: repeat that or delete it"):
        prepare.main(_shard(output, "1/2"))
    (partial / "plan.json").rename(partial / "letter.txt")
    with pytest.raises(InputError, match="holds other files: move it or delete it"):
        prepare.main(_shard(output, "1/2"))
    assert [path.name for path in partial.iterdir()] == ["letter.txt"]
    (partial / "letter.txt").unlink()
    with (
        files.claimed(partial),
        pytest.raises(InputError, match=r"another process works in .*store.partial: wait"),
    ):
        prepare.main(_shard(output, "1/2"))


@pytest.mark.usefixtures("no_workers")
def test_a_merge_that_was_killed_goes_on(tmp_path, monkeypatch, capsys):
    output, partial = tmp_path / "store", tmp_path / "store.partial"
    merge = _shard(output, "")[:-2]
    prepare.main([*merge, "--output", str(tmp_path / "one")])
    for shard in ("1/2", "2/2"):
        prepare.main(_shard(output, shard))
    for function, module in (("seal", store), ("rmtree", shutil)):  # As it sorts, and at its end.
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, function, _killed_at(partial, getattr(module, function)))
            prepare.main(merge)
        assert partial.exists()
    prepare.main(_shard(output, "2/2"))
    assert partial.exists()
    prepare.main(merge)
    assert capsys.readouterr().out.count("is whole already") == 2
    assert not partial.exists()
    assert _files(output) == _files(tmp_path / "one")


def _killed_at(folder: Path, function):
    """`function`, but where it is asked to seal in `folder`, or to remove it, the process ends."""

    def wrapped(path, *args, **kwargs):
        if path in (folder, folder / "store") and kwargs != {"ignore_errors": True}:
            raise KeyboardInterrupt
        return function(path, *args, **kwargs)

    return wrapped


@pytest.mark.usefixtures("no_workers")
def test_a_loss_of_power_finds_what_the_journal_and_the_store_s_name_speak_of(
    tmp_path, monkeypatch
):
    """By what was on the disk when the journal went on, and when the store got its name."""
    synced: dict[str, int] = {}
    fsync, rename, dumps = os.fsync, os.rename, json.dumps
    partial, decoded = tmp_path / "store.partial", 0

    def noting(descriptor):
        fsync(descriptor)
        synced[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size

    def journaling(value, **kwargs):
        nonlocal decoded
        if "sha256" in value and "file" in value:
            decoded += 1
            assert synced[str(partial / "records.bin")] >= decoded * 3 * SIZE * SIZE
        return dumps(value, **kwargs)

    def naming(path, target):
        for file in Path(path).iterdir():
            written = [name for name in synced if name.startswith(str(file))]
            assert [synced[name] for name in written] == [file.stat().st_size]
        assert str(path) in synced and str(tmp_path) not in synced
        rename(path, target)

    for module, name, act in (
        (os, "fsync", noting),
        (os, "rename", naming),
        (json, "dumps", journaling),
    ):
        monkeypatch.setattr(module, name, act)
    prepare.main([*SYNTHETIC, "--output", str(tmp_path / "store")])
    assert decoded == 160
    assert str(tmp_path) in synced


def test_a_journal_that_ends_in_zeros_goes_on(undisturbed, tmp_path):
    partial = tmp_path / "store.partial"
    process = _start(tmp_path / "store")
    while process.poll() is None and not (partial / "decoded.jsonl").exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    with open(partial / "decoded.jsonl", "ab") as journal:
        journal.write(bytes(100) + b"\n")
    prepare.main([*SYNTHETIC, "--output", str(tmp_path / "store"), "--workers", "2"])
    assert _files(tmp_path / "store") == _files(undisturbed)


@pytest.fixture
def folder_of_one(tmp_path) -> Path:
    _save(tmp_path / "one" / "a" / "1.png", artist=0, painting=0)
    return tmp_path / "one"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: source"),
        (["flickr", "--output", "x"], "invalid choice: 'flickr'"),
        (["folder", "--output", "x"], "required: --input"),
        (["folder", "--input", "nowhere", "--output", "x"], "nowhere is not a folder"),
        (["folder", "--input", "empty", "--output", "x"], "has 0 files and none in an artist's"),
        (["folder", "--input", "one", "--output", "x"], "no artist has two readable paintings"),
        (["folder", "--input", "one", "--output", "one/x"], "lies in --input"),
        (["csv", "--input", "no.csv", "--images", "one", "--output", "x"], "cannot read no.csv"),
        (["csv", "--input", "/dev/zero", "--images", "one", "--output", "x"], "zero is no file"),
        (["csv", "--input=", "--images", "one", "--output", "x"], "--input: is empty, perhaps"),
        (["kaggle", "--input", "one", "--output", "x"], "neither all_data_info.csv nor"),
        (["synthetic", "--output", "one"], "one exists and is no store"),
        (["synthetic", "--output", "x", "--image-size", "8"], r"must lie in \[32, 4096\]"),
        (["synthetic", "--output", "x", "--image-size", "big"], "invalid int value: 'big'"),
        (["synthetic", "--output", "x", "--test-fraction", "1"], r"must lie in \[0, 1\)"),
        (["synthetic", "--output", "x", "--workers", "0"], "must be at least 1"),
        (["synthetic", "--output", "x", "--shard", "0/4"], "0/4: must be i/n with 1 <= i <= n"),
        (["synthetic", "--output", "x", "--shard", "17/16"], "17/16: must be i/n"),
        (["synthetic", "--output", "x", "--shard", "3"], "3: must be i/n"),
    ],
)
def test_wrong_usage_is_one_line(folder_of_one, monkeypatch, argv, message):
    monkeypatch.chdir(folder_of_one.parent)
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message) as refusal:
        prepare.main(argv)
    assert "\n" not in str(refusal.value)
    assert {path.name for path in Path().iterdir()} == {"one", "empty"}


@pytest.mark.paintings
def test_real_paintings_are_read_whole(shared, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    for artist in sorted((shared / "paintings" / "images").iterdir())[:6]:
        (folder / artist.name).symlink_to(artist)
    made = _prepare("folder", "--input", folder, "--output", tmp_path / "store")
    files = sum(len(list(artist.iterdir())) for artist in folder.iterdir())
    assert _rejected(made.path) == {}
    assert sum(len(made.splits[name]) for name in catalog.SPLITS) == files > 60
