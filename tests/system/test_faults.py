"""A bad day: kills, signals, full and broken disks, changed files; nothing is lost."""

import concurrent.futures
import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
import pytest

from benchmarks import kills, memory
from painterjax import evaluate, prepare, train
from painterjax.common import checksums, signals
from painterjax.common.errors import InputError
from painterjax.data import store, synthetic
from painterjax.run import metrics_log
from painterjax.run.checkpoint import Checkpoints, find_whole
from painterjax.run.load import load_run
from painterjax.training import trainer, validation
from tests.helpers import tiny
from tests.helpers.runs import assert_same, records


@pytest.fixture
def argv(tiny_store, tmp_path) -> list[str]:
    """What trains as the session's undisturbed run did."""
    return tiny.argv(tiny_store, tmp_path / "run")


@contextlib.contextmanager
def before_step(step: int, act: Callable[[], object]) -> Iterator[None]:
    """Calls `act` when a training is about to take a step."""
    run = trainer.Training.run

    def acting(training, state, batch, count):
        if int(state.step) + 1 == step:
            act()
        return run(training, state, batch, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Training, "run", acting)
        yield


# ---- Kills and signals.


@pytest.mark.slow
@pytest.mark.usefixtures("run")  # What it compiled is on disk then.
def test_killed_at_random_it_ends_as_if_undisturbed(tiny_store, tmp_path):
    """`python -m benchmarks.kills` in small: SIGKILL and SIGTERM at random moments."""
    case = kills.Case(tmp_path, tiny_store, ("host", 1), epochs=4)
    lines = list(case.killed(2, np.random.default_rng(7), 7))
    assert [line["differences"] for line in lines] == [[]] * len(lines)
    assert sum("kill" in line for line in lines) == 2
    assert lines[-1]["status"] == 0


@pytest.fixture
def told_once() -> Iterator[None]:
    """Handles signals as a command does, and forgets them."""
    handlers = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.handle()
    yield
    signals._State.number = 0
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _tell(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture
def removed() -> Iterator[list[str]]:
    """What this process removes, by Python's audit."""
    paths, listening = [], True

    def hear(event: str, args: tuple) -> None:
        if listening and event in ("os.remove", "os.rmdir", "shutil.rmtree"):
            paths.append(str(args[0]))

    sys.addaudithook(hear)  # It stays for as long as the process.
    yield paths
    listening = False


@pytest.mark.usefixtures("told_once")
def test_told_to_stop_it_saves_where_it_is_and_goes_on_to_the_same_bits(
    run, argv, tmp_path, removed
):
    """In the middle of a record, while it validates, and at the last step."""
    path = tmp_path / "run"
    with before_step(25, _tell(signal.SIGTERM)):
        _stops(argv, path, signal.SIGTERM, step=25)
    judge = validation.Validator.judge

    def interrupted(self, state, on_batch):
        _tell(signal.SIGINT)()
        return judge(self, state, on_batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation.Validator, "judge", interrupted)
        _stops(argv, path, signal.SIGINT, step=36)
    assert not [record for record in records(path) if record["split"] == "val"]
    with before_step(72, _tell(signal.SIGTERM)):
        _stops(argv, path, signal.SIGTERM, step=72)
    train.main(argv)
    assert_same(path, run)
    # A kill at any moment leaves no part of a checkpoint under its name.
    assert not [name for name in removed if re.search(r"/checkpoints/\d+(/|$)", name)]
    for step in (10, 36):  # One that is superseded, and one that is saved again once validated.
        assert str(path / "checkpoints" / f"{step}.dropped") in removed


def _stops(argv: list[str], run: Path, number: int, *, step: int) -> None:
    signals._State.number = 0
    began_s = time.monotonic()
    with pytest.raises(signals.Stopped) as stopped:
        train.main(argv)
    assert time.monotonic() - began_s < 60
    assert stopped.value.number == number
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        assert checkpoints.latest_step == step
    signals._State.number = 0


# Commands that are busy for a minute: in Python, where they may not be stopped; in C; and where
# Python drops what is raised.
BUSY = """
import gc, hashlib, sys, time
from painterjax.common import cli, signals
def held(argv):
    with signals.deferred():
        print("busy", flush=True)
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            time.sleep(0.01)
def in_c(argv):
    signals.GRACE_S = 0.5
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)
def collecting(argv):
    gc.callbacks.append(lambda *_: time.sleep(0.01))
    print("busy", flush=True)
    for _ in range(2000):
        gc.collect()
        time.sleep(0.02)
cli.run({"held": held, "in_c": in_c, "collecting": collecting}[sys.argv[1]], "busy")
"""


@pytest.mark.parametrize(
    ("busy", "signals"),
    [
        ("held", [signal.SIGINT] * 2),
        ("in_c", [signal.SIGINT]),
        ("in_c", [signal.SIGTERM]),
        ("collecting", [signal.SIGTERM]),
    ],
)
def test_whatever_a_command_is_busy_with_it_leaves_in_one_line(busy, signals):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, busy], cwd=tiny.ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    for number in signals:
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signals[-1]
    assert said.count("run it again to continue") == 1
    # What Python drops while it collects garbage, it shows.
    assert "Traceback" not in said or busy == "collecting"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_still_imports_ends_in_one_line(number):
    process = subprocess.Popen(
        [sys.executable, "-m", "painterjax.train"], cwd=tiny.ROOT, text=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    while "jaxlib" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.001)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1].endswith("ed; run it again to continue")
    assert len(said.splitlines()) == 2


def test_embed_and_evaluate_heed_sigterm_as_well(run, tmp_path):
    _paint(tmp_path / "images")
    for command in (["evaluate"], ["embed", "--images", str(tmp_path / "images"), "--output",
                                   str(tmp_path / "v.npz"), "--workers", "1"]):  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", f"painterjax.{command[0]}", "--run", str(run), *command[1:]],
            cwd=tiny.ROOT, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()  # The first line of its progress.
        process.terminate()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 143, said
        assert said.splitlines()[-1].endswith("terminated; run it again to continue")
        assert "Traceback" not in said


def _paint(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    for painting in range(60):
        pixels = synthetic.paint(seed=0, artist=0, painting=painting, size=32)
        Image.fromarray(pixels).save(folder / f"{painting}.png")


# ---- Disks.


class Disk:
    """A small file system in memory that can be filled, grown and made read-only."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir()
        self.mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def mount(self, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(self.path)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def fill(self, *, but: int = 0) -> None:
        with contextlib.suppress(OSError), open(self.path / "ballast", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        size = (self.path / "ballast").stat().st_size
        os.truncate(self.path / "ballast", max(0, size - but))


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Disk]]:
    path = tmp_path / "disk"
    yield lambda size: Disk(path, size)
    subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


@pytest.fixture
def saves_ended(monkeypatch) -> None:
    """Makes a training wait for each of its saves, which otherwise races with the next record."""
    save = Checkpoints.save

    def save_and_wait(checkpoints, *args, **kwargs):
        save(checkpoints, *args, **kwargs)
        concurrent.futures.wait([checkpoints._saving])

    monkeypatch.setattr(Checkpoints, "save", save_and_wait)


def _wait_for_checkpoint(run: Path, step: int) -> None:
    while not checksums.is_sealed(run / "checkpoints" / str(step)):
        time.sleep(0.01)


# TensorStore may come back to an event loop that Orbax closed when the save failed.
@pytest.mark.usefixtures("saves_ended")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (10, r"the checkpoint of step 30 cannot be written \(.*No space left on device.*run it"),
        (1000, "No space left on device"),
    ],
    ids=["checkpoint", "metrics"],
)
def test_a_full_disk_while_training_loses_nothing(interval, said, run, tiny_store, disk):
    small = disk("20m")
    every = f"--config.checkpoint_every_steps={interval}"
    argv = tiny.argv(tiny_store, small.path / "run", every)

    def fill():
        if interval == 10:
            _wait_for_checkpoint(small.path / "run", 20)
        small.fill(but=32768 if interval == 10 else 0)  # For the metrics; a checkpoint takes more.

    full = before_step(28, fill)
    with full, pytest.raises((InputError, OSError), match=said) as refusal:
        train.main(argv)
    assert "\n" not in str(refusal.value)
    (small.path / "ballast").unlink()
    train.main(argv)
    assert_same(small.path / "run", run)


def test_a_full_disk_while_preparing_loses_nothing(disk, tiny_store):
    """While it decodes, and while it sorts."""
    small = disk("120k")
    command = [*tiny.STORE, "--output", str(small.path / "store")]
    for size, has_decoded in (("300k", False), ("20m", True)):
        with pytest.raises(OSError, match="No space left on device"):
            prepare.main(command)
        assert (small.path / "store.partial" / "store").exists() == has_decoded
        small.mount("-o", f"remount,size={size}")
    prepare.main(command)
    for path in tiny_store.iterdir():
        assert checksums.sha256(small.path / "store" / path.name) == checksums.sha256(path)


def test_a_full_disk_while_preparing_shards_loses_nothing(disk, tiny_store):
    """While a shard is decoded, and while all are merged."""
    small = disk("60k")
    command = [*tiny.STORE, "--output", str(small.path / "store")]
    with pytest.raises(OSError, match="No space left on device"):
        prepare.main([*command, "--shard", "1/2"])
    small.mount("-o", "remount,size=300k")
    for shard in ("1/2", "2/2"):
        prepare.main([*command, "--shard", shard])
    with pytest.raises(OSError, match="No space left on device"):
        prepare.main(command)
    small.mount("-o", "remount,size=20m")
    prepare.main(command)
    for path in tiny_store.iterdir():
        assert checksums.sha256(small.path / "store" / path.name) == checksums.sha256(path)


def test_a_read_only_run_folder_is_refused_in_one_line(run, tiny_store, disk):
    small = disk("20m")
    shutil.copytree(run, small.path / "run")
    before = {path: path.read_bytes() for path in small.path.rglob("*") if path.is_file()}
    small.mount("-o", "remount,ro")
    done = tiny.train(tiny.argv(tiny_store, small.path / "run"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith("the file system is read-only: choose a folder that can be written to")
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_folder_that_vanishes_ends_the_training(argv, tmp_path):
    def vanish():
        _wait_for_checkpoint(tmp_path / "run", 20)
        (tmp_path / "run").rename(tmp_path / "aside")

    with before_step(25, vanish), pytest.raises(InputError, match=r"metrics.jsonl was removed or"):
        train.main(argv)
    assert not (tmp_path / "run").exists()


def test_a_save_that_failed_surfaces_at_the_next_step(argv, tmp_path, monkeypatch):
    check, steps = Checkpoints.check, []

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def check_what_has_ended(self):
        if self._saving is not None:
            concurrent.futures.wait([self._saving])
        check(self)

    run = trainer.Training.run

    def noting(training, state, batch, count):
        steps.append(int(state.step) + 1)
        return run(training, state, batch, count)

    monkeypatch.setattr(trainer.Training, "run", noting)
    monkeypatch.setattr(checksums, "seal", fail)
    monkeypatch.setattr(Checkpoints, "check", check_what_has_ended)
    with pytest.raises(InputError, match=r"checkpoint of step 10 cannot be written .*No space"):
        train.main(argv)
    assert steps[-1] == 11


def test_a_lost_process_is_not_a_failed_save(tmp_path, monkeypatch):
    """Orbax waits for it in vain; status 2 would keep launchers from starting all again."""

    def wait_in_vain(*_, **__):
        raise TimeoutError("waiting at barrier") from jax.errors.JaxRuntimeError("UNAVAILABLE")

    monkeypatch.setattr(ocp.training.Checkpointer, "save_checkpointables_async", wait_in_vain)
    state: Any = types.SimpleNamespace(
        judged_params={}, params={}, stats={}, proxies={}, moments={}, step=1, average=None
    )
    with pytest.raises(TimeoutError, match="barrier"):
        Checkpoints(tmp_path).save(state, step=1, roc_auc=None, window=[])


# ---- Changed files.


def test_every_altered_missing_or_added_file_of_a_checkpoint_is_seen(run, tmp_path):
    whole = tmp_path / "72"
    shutil.copytree(run / "checkpoints" / "72", whole)
    assert not checksums.damage(whole)
    found = [path for path in whole.rglob("*") if path.is_file()]
    assert len(found) > 10
    for path in found:
        data = path.read_bytes()
        for position in {0, len(data) // 2, len(data) - 1} if data else ():
            altered = bytearray(data)
            altered[position] ^= 1
            path.write_bytes(altered)
            assert checksums.damage(whole), (path, position)
        path.write_bytes(data[:-1] if data else b" ")
        assert checksums.damage(whole), path
        path.write_bytes(data)
        if path.name != checksums.NAME:
            path.unlink()
            assert checksums.damage(whole) == {str(path.relative_to(whole)): "is missing"}
            path.write_bytes(data)
    lines = (whole / checksums.NAME).read_text().splitlines(keepends=True)
    (whole / checksums.NAME).write_text("".join(lines[:-1]))
    assert set(checksums.damage(whole).values()) == {"is new"}


def test_the_checksums_are_those_of_sha256sum(run):
    if not shutil.which("sha256sum"):
        pytest.skip("needs the command sha256sum")
    for path in (run / "checkpoints").iterdir():
        if path.name.isdecimal():
            subprocess.run(["sha256sum", "--check", "--strict", "--quiet", checksums.NAME],
                           cwd=path, check=True)  # fmt: skip


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _arrays(checkpoint: Path) -> Path:
    return max((checkpoint / "training").rglob("d/*"), key=lambda path: path.stat().st_size)


def test_a_damaged_checkpoint_gives_way_to_an_earlier_one_loudly(run, tiny_store, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    _flip(_arrays(copy / "checkpoints" / "72"))
    train.main(tiny.argv(tiny_store, copy))
    said = capsys.readouterr().err
    assert re.search(r"checkpoints/72 is damaged \(training/.* has changed\): another", said)
    assert "train: 66 of 72 steps" in said
    assert "are lost" not in said
    assert (copy / "checkpoints" / "72.damaged").exists()
    assert_same(copy, run)
    (copy / "metrics.jsonl").unlink()
    train.main(tiny.argv(tiny_store, copy))
    assert "ends with step 0: the records up to step 72 are lost" in capsys.readouterr().err


def test_a_damaged_best_checkpoint_is_not_judged(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        best = checkpoints.best_step
    _flip(_arrays(copy / "checkpoints" / str(best)))
    assert load_run(copy).step != best
    assert f"checkpoints/{best} is damaged" in capsys.readouterr().err


def test_where_all_checkpoints_are_damaged_training_does_not_begin_anew(run, tiny_store, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    checkpoints = [path for path in (copy / "checkpoints").iterdir() if path.name.isdecimal()]
    for path in checkpoints:
        _flip(_arrays(path))
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(
        InputError, match=r"all .* damaged \(72/training/.* has changed\): bring back"
    ):
        train.main(tiny.argv(tiny_store, copy))
    assert (copy / "metrics.jsonl").read_bytes() == before
    assert all(path.exists() for path in checkpoints)


def test_checkpoints_of_an_earlier_version_have_no_checksums_and_are_taken(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints").rglob(checksums.NAME):
        path.unlink()
    kept = set((copy / "checkpoints").iterdir())
    for said in ("no checkpoint has checksums", ""):
        assert max(find_whole(copy, clean=True)) == 72
        assert said in capsys.readouterr().err
    assert set((copy / "checkpoints").iterdir()) == kept


def test_a_store_whose_pixels_changed_is_refused_by_its_hash(run, tiny_store):
    path = tiny_store / "images.npy"
    whole = path.read_bytes()
    before = (run / "evaluation.json").read_bytes()
    try:
        _flip(path)
        with pytest.raises(InputError, match=r"images.npy is not what prepare wrote: delete it"):
            train.main(tiny.argv(tiny_store, run))
        with pytest.raises(InputError, match=r"images.npy is not what prepare wrote: delete it"):
            evaluate.main(["--run", str(run)])
    finally:
        path.write_bytes(whole)
    assert (run / "evaluation.json").read_bytes() == before


# ---- Locks, clocks, memory, and what is never run.

LOCKED = """
import sys, time
from pathlib import Path
from typing import Any
from painterjax.common import files
with files.claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path):
    command = [sys.executable, "-c", LOCKED, str(tmp_path)]
    for _ in range(2):  # The second finds what the first, killed, has left.
        with subprocess.Popen(command, cwd=tiny.ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "claimed\n"
            second = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
            assert "another process works in" in second.stderr
            process.kill()
    assert (tmp_path / "lock").exists()


def test_a_clock_that_goes_back_changes_nothing(run, argv, tmp_path, monkeypatch):
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 2e9 - 3600 * next(jumps))
    train.main(argv)
    monkeypatch.undo()
    assert_same(tmp_path / "run", run)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    clocked = [json.loads(line) for line in lines if '"train"' in line]
    assert all(record["step_ms"] > 0 and record["data_wait_ms"] >= 0 for record in clocked)


def test_event_files_sort_in_the_order_of_their_starts(run, tmp_path, monkeypatch):

    for now_s in (2e9, 1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
        metrics_log.MetricsLog(tmp_path, last_step=0).close()
    names = sorted(path.name for path in tmp_path.glob("events.*"))
    assert [name.split(".")[3] for name in names] == ["2000000000", "2000000001", "2000000002"]


@pytest.mark.slow
def test_a_long_training_keeps_its_memory(argv):
    """`python -m benchmarks.memory` in small, within this process."""
    resident = []

    def look():
        resident.append(memory.resident_bytes(os.getpid()))

    with before_step(200, look), before_step(430, look):
        train.main([*argv, "--config.num_epochs=12"])
    assert resident[1] / resident[0] - 1 < 0.02


def test_loading_a_run_unpickles_nothing(run):
    """By Python's audit: no object is looked up by a name that a pickle gives."""
    found, listening = [], True

    def hear(event: str, args: tuple) -> None:
        if listening and event == "pickle.find_class":
            found.append(args)

    sys.addaudithook(hear)  # It stays for as long as the process.
    pickle.loads(pickle.dumps(Path("x")))
    assert found, "the hook hears nothing"
    found.clear()
    evaluate.main(["--run", str(run)])
    assert not found
    listening = False


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_a_run_or_store_is_not_run(run, tiny_store, tmp_path):
    """In place of every file; the checksums of the checkpoints are right."""
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for name, papers in (("papers", ["*.json", "*.jsonl"]), ("arrays", ["checkpoints/*/**/*"])):
        copy = tmp_path / name
        shutil.copytree(run, copy)
        for path in [path for pattern in papers for path in copy.glob(pattern) if path.is_file()]:
            path.write_bytes(bomb)
        for path in (copy / "checkpoints").iterdir():
            checksums.seal(path)
        with pytest.raises((InputError, ValueError)):
            evaluate.main(["--run", str(copy)])
    shutil.copytree(tiny_store, tmp_path / "store")
    np.save(tmp_path / "store" / "images.npy", np.array([Bomb(tmp_path / "exploded")]))
    with pytest.raises(InputError, match=r"images.npy cannot be read"):
        store.open_store(tmp_path / "store")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists()


def test_a_removal_that_was_cut_short_is_no_damage(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    dropped = (copy / "checkpoints" / "66").rename(copy / "checkpoints" / "66.dropped")
    (dropped / "_CHECKPOINT_METADATA").unlink()
    for clean in (False, True):
        assert max(find_whole(copy, clean=clean)) == 72
        assert "damaged" not in capsys.readouterr().err
        assert dropped.exists() != clean


def test_a_file_that_an_older_checkpoint_lacks_is_damage(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    older = copy / "checkpoints" / "66"
    for name in ("network/_sharding", "training/commit_success.txt", checksums.NAME):
        aside = (older / name).rename(tmp_path / "aside")
        with contextlib.closing(Checkpoints(copy)) as checkpoints:
            assert checkpoints.latest_step == 72
        assert f"66 is damaged ({name} is missing): another" in capsys.readouterr().err
        aside.rename(older / name)
    (older / "network" / "_sharding").unlink()
    find_whole(copy, clean=True)
    assert older.with_name("66.damaged").exists()


def test_a_checkpoint_that_cannot_be_read_is_damaged(run, monkeypatch, capsys):
    """Where root reads all, by a stand-in for the file system."""
    sha256 = checksums.sha256

    def refuse(path: Path) -> str:
        if path.parts[-3:-1] == ("72", "network"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return sha256(path)

    monkeypatch.setattr(checksums, "sha256", refuse)
    with contextlib.closing(Checkpoints(run)) as checkpoints:
        assert checkpoints.latest_step == 66
    said = capsys.readouterr().err
    assert re.search(r"72 is damaged \(network/\w+ cannot be read: Permission denied\)", said)
