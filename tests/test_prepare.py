"""prepare as its users call it: sources, rejected files, interruptions, shards and wrong usage."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from painterjax import prepare
from painterjax.common import files, process_pool
from painterjax.common.errors import InputError
from painterjax.data import catalog, sources, splits, store, synthetic
from painterjax.run.figures import artists_of

SIZE = 32
HANG_S = 300  # Only ends a test that hangs.


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
    """Four artists with three paintings each, and all that can be wrong with files."""
    folder = tmp_path / "gallery"
    for artist, painting in np.ndindex(4, 3):
        _save(folder / f"artist {artist}" / f"No. {painting}.png", artist=artist, painting=painting)
    shutil.copy(folder / "artist 0" / "No. 0.png", folder / "artist 1" / "copy.png")
    with Image.open(folder / "artist 3" / "No. 1.png") as image:
        image.save(folder / "artist 3" / "recompressed.jpg", quality=80)
    _save(folder / "lonely" / "only.png", artist=9, painting=0)
    (folder / "artist 2" / "empty.jpg").touch()
    (folder / "artist 2" / "page.jpg").write_text("<html>not found</html>")
    (folder / "artist 2" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (folder / "artist 2" / "circle").symlink_to(folder)
    (folder / "around").symlink_to(folder)
    (folder / "artist 2" / ".hidden").write_text("of a file manager")
    os.rename(folder / "artist 3" / "No. 0.png", folder / "artist 3" / "No. 0.jpg")
    _save(folder / "stray.png", artist=8, painting=0)
    return folder


@pytest.mark.usefixtures("no_workers")
def test_a_folder_becomes_a_store(gallery, tmp_path):
    command = ["folder", "--input", gallery, "--val-fraction", "0.1"]
    made = _prepare(*command, "--output", tmp_path / "store")
    assert _rejected(made.path) == {
        "artist 0/No. 0.png": "the same bytes as artist 1/copy.png by another artist",
        "artist 1/copy.png": "the same bytes as artist 0/No. 0.png by another artist",
        "artist 2/circle": "a link to a folder, which is not followed",
        "around": "a link to a folder, which is not followed",
        "artist 2/dangling.jpg": "file is missing",
        "artist 2/empty.jpg": "empty file",
        "artist 2/page.jpg": "not an image that can be read",
        "artist 3/recompressed.jpg": "nearly the same picture as artist 3/No. 1.png",
        "lonely/only.png": "the artist's only painting",
        "stray.png": "not in an artist's folder",
    }
    assert made.info["counts"] == {
        "files": 21,
        "rejected": 10,
        "duplicates": {"groups": 2, "by_several_artists": 1, "dropped_whole": 1},
        "train": {"paintings": 8, "artists": 3},
        "val": {"paintings": 0, "artists": 0},
        "test": {"paintings": 3, "artists": 1},
    }
    for split in made.splits.values():
        for image_SxSxC, painting in zip(split.image_NxSxSxC, split.paintings, strict=True):
            artist, number = painting.artist.split()[1], painting.title.split()[1]
            expected = synthetic.paint(seed=0, artist=int(artist), painting=int(number), size=SIZE)
            np.testing.assert_array_equal(image_SxSxC, expected)


@pytest.mark.usefixtures("no_workers")
def test_images_that_are_gone_are_not_rejected_one_by_one(gallery, tmp_path, monkeypatch):
    """As where a disk is unmounted meanwhile, or another machine does not see it."""

    def elsewhere(function, items, _):
        gallery.rename(tmp_path / "elsewhere")
        yield from map(function, items)

    monkeypatch.setattr(process_pool, "ordered_map", elsewhere)
    with pytest.raises(InputError, match=f"{gallery} is gone, or .* does not see it: mount it"):
        _prepare("folder", "--input", gallery, "--output", tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("no_workers")
def test_a_table_becomes_a_store(gallery, tmp_path):
    """Spaces around an artist's name do not make another artist."""
    rows = [("file", "artist", "style")]
    for a, p in np.ndindex(3, 3):
        rows.append((f"artist {a}/No. {p}.png", f"Painter {a}, “P”" + p * " ", "Dots"))
    rows += [("artist 3/missing.png", "x", ""), ("artist 3/No. 1.png", " ", "")]
    (tmp_path / "list.csv").write_text(catalog.csv_text(rows), encoding="utf-8")
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


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("table", "header", "date"),
    [
        ("all_data_info.csv", "artist,date,title,new_filename,in_train", "c.1645"),
        ("train_info.csv", "artist,date,title,genre,filename", "ific"),
    ],
)
def test_the_competition_s_files_become_a_store(tmp_path, table, header, date):
    lines = [header]
    for number, (artist, painting) in enumerate(np.ndindex(3, 2)):
        is_train = "in_train" not in header or not painting
        folder = tmp_path / ("train" if is_train else "test")
        _save(folder / f"{number}.jpg", artist=artist, painting=painting)
        row = {"artist": artist, "date": date, "title": f'"Work, {number}"', "genre": "g"}
        row |= {"in_train": is_train, "filename": f"{number}.jpg", "new_filename": f"{number}.jpg"}
        lines.append(",".join(str(row[name]) for name in header.split(",")))
    (tmp_path / table).write_text("\n".join(lines))
    made = _prepare("kaggle", "--input", tmp_path, "--output", tmp_path / "store")
    paintings = [p for split in made.splits.values() for p in split.paintings]
    assert _rejected(made.path) == {}
    assert sorted(p.title for p in paintings) == [f"Work, {i}" for i in range(6)]
    assert {p.date for p in paintings} == {date}


def _split_by_title(made: store.Store) -> dict[str, str]:
    return {p.title: name for name, split in made.splits.items() for p in split.paintings}


@pytest.mark.usefixtures("no_workers")
def test_by_kaggle_s_split_no_image_of_test_is_trained_on(tmp_path):
    """Five artists in both folders, one in test alone, one with single paintings in each."""
    lines = ["artist,title,new_filename,in_train"]
    counts = [(10, 3)] * 5 + [(0, 3), (1, 1)]
    works = [(a, n < train) for a, (train, test) in enumerate(counts) for n in range(train + test)]
    for number, (artist, is_train) in enumerate(works):
        folder = tmp_path / "input" / ("train" if is_train else "test")
        _save(folder / f"{number}.jpg", artist=artist, painting=number)
        lines.append(f"painter {artist},{is_train},{number}.jpg,{is_train}")
    (tmp_path / "input" / "all_data_info.csv").write_text("\n".join(lines))
    command = ["kaggle", "--input", tmp_path / "input", "--val-fraction", "0.1", "--output"]
    made = _prepare(*command, tmp_path / "store", "--split-by", "kaggle")
    titles = {name: {p.title for p in split.paintings} for name, split in made.splits.items()}
    assert titles == {"train": {"True"}, "val": {"True"}, "test": {"False"}}
    sizes = {name: len(split) for name, split in made.splits.items()}
    assert sizes == {"train": 5 * 9 + 1, "val": 5, "test": 5 * 3 + 3 + 1}
    trained_on = made.splits["train"].artists
    said = [artists_of(made.splits[name], trained_on) for name in catalog.SPLITS]
    assert said == [
        "6 artists seen in training", "5 artists seen in training",
        "7 artists, 6 of them seen in training",
    ]  # fmt: skip
    assert _prepare(*command, tmp_path / "store", "--split-by", "kaggle").info == made.info
    with pytest.raises(InputError, match=r"another store \(.*split_by is kaggle"):
        _prepare(*command, tmp_path / "store")
    lines = ["artist,filename", *(f"painter {a},{i}.jpg" for i, (a, _) in enumerate(works))]
    (tmp_path / "input" / "all_data_info.csv").unlink()
    (tmp_path / "input" / "train_info.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"train_info\.csv lists no image of test/: put all_data"):
        _prepare(*command, tmp_path / "other", "--split-by", "kaggle")


HASHED = "5b39c876740bfc1cfaf544721c43cac3"


@pytest.mark.parametrize("flags", [["--without-holdout"], ["--split-by", "holdout"]])
@pytest.mark.parametrize(
    ("source", "header"), [("kaggle", "artist,filename"), ("csv", "artist,file")]
)
def test_who_is_held_out_is_not_told_by_hashed_names(source, header, flags, tmp_path):
    """As in train_info.csv of Painter by Numbers, or a table that was made of it."""
    table = tmp_path / "input" / "train_info.csv"
    table.parent.mkdir()
    table.write_text(f"{header}\n{HASHED},1.jpg\n{HASHED},2.jpg\nClaude Monet,3.jpg\n")
    given = {"kaggle": [table.parent], "csv": [table, "--images", table.parent]}[source]
    with pytest.raises(InputError, match=f"1 of 2 .*{HASHED}.*put all_data_info.csv") as refusal:
        _prepare(source, "--input", *given, "--output", tmp_path / "store", *flags)
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


@pytest.mark.usefixtures("no_workers")
def test_a_table_s_column_split_is_kept(gallery, tmp_path):
    split_of = {(0, 0): "val", (1, 1): "test", (3, 1): "test", (3, 2): "test"}
    rows = [("file", "artist", "title", "split")]
    for a, p in [*np.ndindex(3, 3), (3, 1), (3, 2)]:
        title = f"{a} {p}"
        rows.append((f"artist {a}/No. {p}.png", f"{a}", title, split_of.get((a, p), "train")))
    table = tmp_path / "list.csv"
    table.write_text(catalog.csv_text(rows), encoding="utf-8")
    command = ["csv", "--input", table, "--images", gallery, "--split-by", "column", "--output"]
    made = _prepare(*command, tmp_path / "store")
    assert _split_by_title(made) == {title: split for _, _, title, split in rows[1:]}
    said = artists_of(made.splits["test"], made.splits["train"].artists)
    assert said == "2 artists, 1 of them seen in training"
    for split, refusal in (
        ("dev", r"list\.csv has artist 0/No\. 0\.png in the split 'dev': must be train or val or"),
        ("train", r"another store \(listing_sha256"),
    ):
        rows[1] = (*rows[1][:3], split)
        table.write_text(catalog.csv_text(rows), encoding="utf-8")
        with pytest.raises(InputError, match=refusal):
            _prepare(*command, tmp_path / "store")
    table.write_text(catalog.csv_text([*rows, (*rows[1][:3], "test")]), encoding="utf-8")
    with pytest.raises(InputError, match=r"No\. 0\.png in train and in test: keep one"):
        _prepare(*command, tmp_path / "store")
    table.write_text(catalog.csv_text([row[:3] for row in rows]), encoding="utf-8")
    with pytest.raises(InputError, match=r"list\.csv has the column.*: add split"):
        _prepare(*command, tmp_path / "store")


COPY = {
    "bytes.png": lambda image, path: image.save(path),
    "comment.jpg": lambda image, path: image.save(path, quality=95, comment=b"a comment"),
    "small.png": lambda image, path: image.resize((3 * SIZE, 3 * SIZE)).save(path),
    "lossy.jpg": lambda image, path: image.save(path, quality=40),
}


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("keep", [None, "copied"])
def test_a_picture_is_in_one_split_at_most(tmp_path, capsys, keep):
    """Ten artists, and four copies of each of an artist's paintings, one of them by `copied`."""
    rows, pictures = [("file", "artist", "keep")], tmp_path / "pictures"
    for artist, number in np.ndindex(10, 4):
        path = pictures / f"{artist}-{number}.png"
        path.parent.mkdir(exist_ok=True)
        image = Image.fromarray(
            synthetic.paint(seed=0, artist=artist, painting=number, size=4 * SIZE)
        )
        image.save(path)
        rows.append((path.name, f"artist {artist}", ""))
        for i, (ending, save) in enumerate(COPY.items()):
            save(image, copy := path.with_name(f"{path.stem}-{ending}"))
            is_other = number == 0 and i == artist % len(COPY)
            name = "copied" if is_other else f"artist {artist}"
            rows.append((copy.name, name, "yes" if is_other and keep else ""))
    (tmp_path / "list.csv").write_text(catalog.csv_text(rows))
    command = ["csv", "--input", tmp_path / "list.csv", "--images", pictures]
    more = ["--val-fraction", "0.4", "--test-fraction", "0.3"]
    made = _prepare(*command, "--output", tmp_path / "store", *more)
    kept = [p for split in made.splits.values() for p in split.paintings]
    assert all(len(split) for split in made.splits.values())
    originals = [painting.file[:3] for painting in kept]
    assert len(set(originals)) == len(originals) == (40 if keep else 30)
    assert sum(painting.artist == "copied" for painting in kept) == (10 if keep else 0)
    with open(made.path / "duplicates.csv", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 200 and len({row["group"] for row in listed}) == 40
    assert {row["file"] for row in listed if row["kept"] == "yes"} == {p.file for p in kept}
    dropped = 0 if keep else 10
    said = f"pictures in several files: 40, by several artists: 10, dropped: {dropped}; see"
    assert said in capsys.readouterr().out
    store.verify(made.path)


@pytest.mark.usefixtures("no_workers")
def test_another_choice_in_the_table_is_another_store(gallery, tmp_path):
    table, images = tmp_path / "list.csv", ["--images", gallery]
    command = ["csv", "--input", table, *images, "--output", tmp_path / "store"]
    files = ["artist 0/No. 0.png", "artist 1/copy.png", "artist 0/No. 1.png", "artist 0/No. 2.png"]
    lines = [f"{file},{file[:8]},\n" for file in files]
    table.write_text("file,artist,keep\n" + "".join(lines))
    assert len(_prepare(*command).splits["train"]) == 2
    lines[0] = lines[0].replace(",\n", ",Yes\n")
    table.write_text("file,artist,keep\n" + "".join(lines))
    with pytest.raises(InputError, match=r"another store \(listing_sha256"):
        _prepare(*command)
    command[-1] = tmp_path / "other"
    assert len(_prepare(*command).splits["train"]) == 3
    table.write_text("file,artist,keep\n" + "".join(lines).replace("Yes", "no"))
    with pytest.raises(InputError, match=r"list\.csv has 'no' in column keep: write yes or leave"):
        _prepare(*command)


def _synthetic(output: Path, *more: str) -> list[str]:
    """Five artists with ten paintings each; workers get eight at a time."""
    argv = ["synthetic", "--artists", "5", "--paintings", "10", "--image-size", str(SIZE)]
    return [*argv, "--val-fraction", "0.1", "--output", str(output), *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """The files of the store that `_synthetic` makes."""
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    prepare.main(_synthetic(path, "--workers", "1"))
    return _files(path)


PAUSING = """
import os, signal, time
from painterjax import prepare
from painterjax.common import cli, progress, signals
advance = progress.Progress.advance
def pausing(self, count):
    advance(self, count)
    if self.done == 16:
        os.kill(os.getpid(), signal.SIGSTOP)
        while not signals.received():  # Another thread may take it, and this one be ahead.
            time.sleep(0.01)
progress.Progress.advance = pausing
cli.run(prepare.main, "prepare")
"""


def _paused(output: Path, *more: str) -> subprocess.Popen:
    """Starts prepare, and returns it when it has paused itself after 16 paintings."""
    command = [sys.executable, "-c", PAUSING, *_synthetic(output, "--workers", "2", *more)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    timer = threading.Timer(HANG_S, process.kill)
    timer.start()
    state = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    timer.cancel()
    assert state and state.si_code == os.CLD_STOPPED
    return process


def _end(process: subprocess.Popen, number: int) -> str:
    """Sends a signal to a paused process, lets it continue, and returns what it printed."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # A terminal sends Ctrl-C to the workers as well.
    else:
        os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    return process.communicate(timeout=HANG_S)[1]


CUT_SHORT = b'{"file": "cut sho'


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("number", "status", "tail"),
    [
        (signal.SIGKILL, -9, CUT_SHORT),
        (signal.SIGKILL, -9, bytes(100) + b"\n"),  # As a power cut may leave it.
        (signal.SIGINT, 130, b""),
        (signal.SIGTERM, 143, b""),
    ],
)
def test_interrupted_and_run_again_it_ends_with_the_same_bytes(
    undisturbed, tmp_path, capsys, number, status, tail
):
    output, results = tmp_path / "store", tmp_path / "store.partial" / "decoded.jsonl"
    process = _paused(output)
    with pytest.raises(InputError, match=r"another process .*store\.partial"):
        prepare.main(_synthetic(output))
    printed = _end(process, number)
    assert process.returncode == status and "Traceback" not in printed
    if number != signal.SIGKILL:
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert printed.splitlines()[-1].startswith(f"painterjax.prepare: {word}; run it again")
    assert not output.exists()
    assert len(results.read_text().splitlines()) == 16
    with open(results, "ab") as file:
        file.write(tail)
    prepare.main(_synthetic(output))
    assert "prepare: 16 of 50 paintings" in capsys.readouterr().err
    assert _files(output) == undisturbed
    assert not results.parent.exists()


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
    # Every Python reads sitecustomize at its start, the workers as well.
    (tmp_path / "sitecustomize.py").write_text(LIMITING)
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[1])))
    command = [sys.executable, "-m", "painterjax.prepare", "folder", "--workers", "2"]
    command += ["--input", str(tmp_path / "paintings"), "--output", str(tmp_path / "store")]
    env = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG_S)
    refusal = "painterjax.prepare: error: a worker ran out of memory: use fewer --workers"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, refusal)
    assert "Traceback" not in done.stderr


def test_any_number_of_workers_makes_the_same_store(undisturbed, tmp_path):
    prepare.main(_synthetic(tmp_path / "3", "--workers", "3"))
    assert _files(tmp_path / "3") == undisturbed


@pytest.mark.usefixtures("no_workers")
def test_a_finished_store_is_checked_and_no_other_is_taken_for_it(gallery, tmp_path, capsys):
    output = tmp_path / "store"
    command = ["folder", "--input", gallery, "--output", output]
    _prepare(*command)
    changed = gallery / "artist 2" / "No. 0.png"
    os.utime(changed, (0, 0))  # As copies for other machines have it.
    _prepare(*command)
    assert "complete already" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"another store \(seed is 0, asked for 1\)"):
        _prepare(*command, "--seed", "1")
    with open(output / "rejected.csv", "a") as file:
        file.write("x,y\n")
    with pytest.raises(InputError, match=r"rejected\.csv is not what prepare wrote"):
        _prepare(*command)
    _save(changed, artist=7, painting=7)
    with pytest.raises(InputError, match=r"another store \(sizes_sha256 is "):
        _prepare(*command)


@pytest.mark.usefixtures("no_workers")
def test_the_way_to_split_is_part_of_a_store(tmp_path):
    """Of finished stores and of unfinished ones, in both directions."""
    asked = {"artist": [], "holdout": ["--split-by", "holdout"], "without": ["--without-holdout"]}
    for name, flags in asked.items():
        prepare.main(_synthetic(tmp_path / name, *flags))
        partial = tmp_path / f"{name}-unfinished.partial"
        info = json.loads((tmp_path / name / "dataset.json").read_text())
        plan = {key: info[key] for key in [*info][1:-2]}
        files.begin_work(partial, plan)
        for other in asked.values():
            outputs = [tmp_path / name, tmp_path / f"{name}-unfinished"]
            for output, refusal in zip(outputs, ("another store", "other options"), strict=True):
                if other is not flags:
                    with pytest.raises(InputError, match=f"{refusal} .*(split_by|without_holdout)"):
                        prepare.main(_synthetic(output, *other))
        prepare.main(_synthetic(tmp_path / f"{name}-unfinished", *flags))
        assert _files(tmp_path / f"{name}-unfinished") == _files(tmp_path / name)
    artists = {
        name: {
            p.artist
            for split in store.open_store(tmp_path / name).splits.values()
            for p in split.paintings
        }
        for name in asked
    }
    held_out = {artist for artist in artists["artist"] if splits.is_held_out(artist)}
    assert 0 < len(held_out) < len(artists["artist"])
    assert artists["without"] == artists["artist"] - held_out
    tested = store.open_store(tmp_path / "holdout").splits["test"].artists
    assert {*tested} == held_out
    assert set(_rejected(tmp_path / "without").values()) == {splits.HELD_OUT}


@pytest.mark.usefixtures("no_workers")
def test_a_folder_that_is_in_the_way_is_kept(tmp_path):
    partial, aside = tmp_path / "store.partial", tmp_path / "aside"
    partial.mkdir()
    (partial / "letter.txt").touch()
    for shard in ([], ["--shard", "1/2"]):
        with pytest.raises(InputError, match=r"store\.partial holds other files"):
            prepare.main(_synthetic(tmp_path / "store", *shard))
    partial.rename(aside)
    prepare.main(_synthetic(tmp_path / "store"))
    aside.rename(partial)
    prepare.main(_synthetic(tmp_path / "store"))
    assert [path.name for path in partial.iterdir()] == ["letter.txt"]


@pytest.mark.usefixtures("no_workers")
def test_work_goes_on_by_its_plan_and_not_by_that_of_an_earlier_version(undisturbed, tmp_path):
    plan = {
        "source": "synthetic", "image_size": SIZE, "seed": 0, "test_fraction": 0.2,
        "val_fraction": 0.1,
        "listing_sha256": "3fd73146bcbdc7302e9eff9acbfced61d7c457be82c90d0a19ec17063c6c4e95",
    }  # fmt: skip
    path = tmp_path / "store.partial" / "plan.json"
    path.parent.mkdir()
    path.write_text(json.dumps(plan))  # Its results lack what tells duplicates.
    refusal = r"\(duplicates was None, is 1, decoding was None, is 2\): repeat .* or delete it"
    with pytest.raises(InputError, match=refusal):
        prepare.main(_synthetic(tmp_path / "store"))
    plan |= {"duplicates": 1, "decoding": 2}
    path.write_text(json.dumps({**plan, "image_size": 64}))
    with pytest.raises(InputError, match=r"\(image_size was 64, is 32\)"):
        prepare.main(_synthetic(tmp_path / "store"))
    path.write_text(json.dumps({**plan, "decoding": 1}))  # Its pixels may be others.
    with pytest.raises(InputError, match=r"\(decoding was 1, is 2\)"):
        prepare.main(_synthetic(tmp_path / "store"))
    path.write_text(json.dumps(plan))
    prepare.main(_synthetic(tmp_path / "store"))
    assert _files(tmp_path / "store") == undisturbed
    info = json.loads(undisturbed["dataset.json"])
    assert [*info] == ["format_version", *plan, "counts", "sha256"]
    assert {key: info[key] for key in plan} == plan
    (tmp_path / "store" / "dataset.json").write_text(json.dumps({**info, "decoding": 1}))
    with pytest.raises(InputError, match=r"another store \(decoding is 1, asked for 2\)"):
        prepare.main(_synthetic(tmp_path / "store"))


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
    assert len(decoded) == count and sum(decoded) == 18 and max(decoded) <= 18 // count + 1
    prepare.main(argv)
    assert _files(tmp_path / "store") == _files(tmp_path / "one")
    rejected = _rejected(tmp_path / "store")
    assert {"artist 0/No. 0.png", "artist 1/copy.png"} <= rejected.keys()  # Of two shards of three.
    assert not partial.exists()


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_an_interrupted_shard_goes_on(undisturbed, tmp_path, number, status):
    command = _synthetic(tmp_path / "store")
    shard, other = [*command, "--shard", "2/2"], [*command, "--shard", "1/2"]
    results = tmp_path / "store.partial" / "shard-2-of-2" / "decoded.jsonl"
    process = _paused(tmp_path / "store", *shard[-2:])
    with pytest.raises(InputError, match=r"another process .*store\.partial: wait"):
        prepare.main(command)
    with pytest.raises(InputError, match=r"another process .*shard-2-of-2: wait"):
        prepare.main(shard)
    assert "Traceback" not in _end(process, number)
    assert process.returncode == status
    prepare.main(other)
    with pytest.raises(InputError, match=r"1 of the 2 shards .*--shard 2/2"):
        prepare.main(command)
    assert len(results.read_text().splitlines()) == 16
    prepare.main(shard)
    prepare.main(command)
    assert _files(tmp_path / "store") == undisturbed


@pytest.mark.usefixtures("no_workers")
def test_shards_of_other_plans_are_not_mixed_up(tmp_path):
    output, partial = tmp_path / "store", tmp_path / "store.partial"
    files.begin_work(partial, {"source": "synthetic"})
    with pytest.raises(InputError, match="without --shard"):
        prepare.main(_synthetic(output, "--shard", "1/3"))
    (partial / "plan.json").unlink()
    with files.claimed(partial), pytest.raises(InputError, match=r"another process .*partial: w"):
        prepare.main(_synthetic(output, "--shard", "1/3"))
    prepare.main(_synthetic(output, "--shard", "1/3"))
    with pytest.raises(InputError, match=r"\(shards was 3, is 4\)"):
        prepare.main(_synthetic(output, "--shard", "2/4"))
    with pytest.raises(InputError, match=r"\(seed was 0, is 1, listing_sha256"):
        prepare.main(_synthetic(output, "--shard", "2/3", "--seed", "1", "--artists", "4"))
    # Two that start at once do not see each other.
    prepare.main(_synthetic(tmp_path / "other", "--shard", "2/3", "--seed", "1"))
    (tmp_path / "other.partial" / "shard-2-of-3").rename(partial / "shard-2-of-3")
    for more in (["--shard", "3/3"], []):
        with pytest.raises(InputError, match=r"\(seed was 1, is 0\)"):
            prepare.main(_synthetic(output, *more))
    shutil.rmtree(partial / "shard-2-of-3")
    with pytest.raises(InputError, match=r"2 of the 3 shards .*--shard 2/3, 3/3 "):
        prepare.main(_synthetic(output))


@pytest.mark.usefixtures("no_workers")
def test_a_shard_looks_at_its_own_files_alone(gallery, tmp_path, monkeypatch):
    """And the merge at all: it takes no shard whose files have other sizes than then."""
    output, stat_size, looked = tmp_path / "store", sources._size, []
    monkeypatch.setattr(sources, "_size", lambda path: looked.append(path) or stat_size(path))
    command = [*map(str, ["folder", "--input", gallery, "--output", output, "--workers", "1"])]
    command += ["--image-size", str(SIZE)]
    listed = [f"{gallery}/{file}" for file in sources.folder(gallery).paintings.table["file"]]
    for number in (1, 2, 3):
        prepare.main([*command, "--shard", f"{number}/3"])
    assert looked == listed  # In this order the three shares are all files.
    changed = gallery / "artist 0" / "No. 1.png"
    before = changed.read_bytes()
    _save(changed, artist=7, painting=7)
    for more in (["--shard", "1/3"], []):
        with pytest.raises(InputError, match=r"other options \(sizes_sha256 was "):
            prepare.main([*command, *more])
    prepare.main([*command, "--shard", "2/3"])
    changed.write_bytes(before)
    looked.clear()
    partial = tmp_path / "store.partial"
    shutil.copytree(partial, tmp_path / "kept")
    prepare.main(command)
    assert looked == listed
    (tmp_path / "kept").rename(partial)  # As a kill before its removal leaves it.
    prepare.main(command)
    assert not partial.exists()
    _prepare("folder", "--input", gallery, "--output", tmp_path / "alone")
    assert _files(output) == _files(tmp_path / "alone")


@pytest.mark.usefixtures("no_workers")
def test_a_merge_that_was_killed_goes_on(undisturbed, tmp_path, monkeypatch, capsys):
    output, partial = tmp_path / "store", tmp_path / "store.partial"
    for shard in ("1/2", "2/2"):
        prepare.main(_synthetic(output, "--shard", shard))
    # Before the store has its name, and after.
    for function, module in (("write_info", store), ("rmtree", shutil)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, function, _killed_at(partial, getattr(module, function)))
            prepare.main(_synthetic(output))
        assert partial.exists()
    prepare.main(_synthetic(output, "--shard", "2/2"))
    assert partial.exists()
    prepare.main(_synthetic(output))
    assert capsys.readouterr().out.count("complete already") == 2
    assert not partial.exists()
    assert _files(output) == undisturbed


def _killed_at(folder: Path, function):
    """`function`, but where it is to write dataset.json in `folder`, or to remove it, a kill."""

    def wrapped(path, *args, **kwargs):
        if path in (folder, folder / "store") and kwargs != {"ignore_errors": True}:
            raise KeyboardInterrupt
        return function(path, *args, **kwargs)

    return wrapped


@pytest.mark.usefixtures("no_workers")
def test_after_a_power_cut_every_result_has_its_image_and_a_named_store_is_complete(
    tmp_path, monkeypatch
):
    """By what was synced before each result was written, and before the store got its name."""
    synced: dict[str, int] = {}
    fsync, rename, dumps = os.fsync, os.rename, json.dumps
    partial, decoded = tmp_path / "store.partial", 0

    def noting(descriptor):
        fsync(descriptor)
        synced[os.readlink(f"/proc/self/fd/{descriptor}")] = os.fstat(descriptor).st_size

    def recording(value, **kwargs):
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

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "rename", naming)
    monkeypatch.setattr(json, "dumps", recording)
    prepare.main(_synthetic(tmp_path / "store"))
    assert decoded == 50
    assert str(tmp_path) in synced


USAGE = {
    "": "required: source",
    "flickr": "flickr",
    "folder": "required: --input",
    "folder --input nowhere": "nowhere is not a folder",
    "folder --input empty": r"0 files .* empty/<artist>/<image>",
    "folder --input one": "no artist has two readable paintings",
    "folder --input . ": r"lies in --input",
    "csv --input no.csv --images one": r"no\.csv",
    "csv --input /dev/zero --images one": "/dev/zero is not a regular file",
    "csv --input= --images one": "--input: is empty",
    "kaggle --input one": r"all_data_info\.csv .*train_info\.csv",
    "synthetic --output one": "one exists and is no store",
    "synthetic --image-size 8": "--image-size: 8: .* 32 to 4096",
    "synthetic --image-size nan": "--image-size: nan: ",
    "synthetic --test-fraction 1": "--test-fraction: 1: ",
    "synthetic --val-fraction nan": "--val-fraction: nan: ",
    "synthetic --seed -1": "--seed: -1: ",
    f"synthetic --seed {'9' * 5000}": "--seed: 9",
    "synthetic --artists 0": "--artists: 0: ",
    "synthetic --workers 0": "--workers: 0: ",
    "synthetic --shard 0/4": "--shard: 0/4: must be i/n",
    "synthetic --shard 17/16": "--shard: 17/16: must be i/n",
    "synthetic --shard 3": "--shard: 3: must be i/n",
    "synthetic --split-by kaggle": "--split-by: invalid choice: 'kaggle' .*artist.*holdout",
    "folder --input one --split-by column": "--split-by: invalid choice: 'column'",
    "csv --input x --images one --split-by column --val-fraction 0": "--val-fraction has no",
    "synthetic --split-by holdout --test-fraction 0.3": "--test-fraction has no effect",
    "synthetic --split-by holdout --without-holdout": "--without-holdout has no effect",
}


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_is_one_line(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    _save(Path("one") / "a" / "1.png", artist=0, painting=0)
    Path("empty").mkdir()
    name, *flags = line.split() or [""]
    argv = [name, "--output", "x", *flags] if name else []
    with pytest.raises(InputError, match=USAGE[line]) as refusal:
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
