"""Many devices and processes: the same batches, losses and gradients; stops, deaths, restarts.

Processes talk through Gloo, each with some of a CPU's devices.
"""

import errno
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from painterjax import train
from painterjax.common import files, signals
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.data import store
from painterjax.distributed import processes
from painterjax.run import config_checks
from tests.helpers import steps_of_mesh, tiny
from tests.helpers.runs import records

# Processes x devices of each.
SHAPES = [(1, 4), (2, 2), (4, 1)]
# A small rate, so that training does not magnify rounding.
ARGV = ["--config.batch_size=4", "--config.checkpoint_every_steps=4",
        "--config.optimizer.learning_rate=1e-6", "--config.num_epochs=2"]  # fmt: skip
WITHIN_S = processes.HEARTBEAT_S + 15  # Behind the first process that ended, all have.


def _free_port() -> int:
    """A port below those that the kernel hands out by itself, of which other tests take many."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)):
                return port


def start(words: list[list[str]], *, devices: int) -> list[subprocess.Popen]:
    """Starts a process for each list of words, together."""
    count = len(words)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}",
        "JAX_NUM_PROCESSES": str(count),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", *each, *(["--distributed"] if count > 1 else [])],
            cwd=tiny.ROOT, env={**environment, "JAX_PROCESS_ID": str(i)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for i, each in enumerate(words)
    ]  # fmt: skip


def end(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Waits for all, who end within WITHIN_S; returns each one's status and what it said."""
    while all(process.poll() is None for process in processes):
        time.sleep(0.05)
    deadline_s = time.monotonic() + WITHIN_S
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    statuses = [process.poll() for process in processes]
    for process in processes:
        process.kill()
    said = [process.communicate()[1] for process in processes]
    assert None not in statuses, f"statuses {statuses}:\n" + "\n".join(said)
    return [(p.returncode, err) for p, err in zip(processes, said, strict=True)]


def assert_good(ended: list[tuple[int, str]]) -> None:
    assert [status for status, _ in ended] == [0] * len(ended), "\n".join(err for _, err in ended)


@pytest.fixture(scope="module")
def alone(tiny_store) -> dict[str, np.ndarray]:
    """What one process with one device does."""
    return steps_of_mesh.all_cases(store.open_store(tiny_store).splits["train"])


def _own_rows(row_LxBxT: np.ndarray, process: int, count: int) -> np.ndarray:
    row_LxN = row_LxBxT.swapaxes(1, 2).reshape(len(row_LxBxT), -1)
    return np.split(row_LxN, count, axis=1)[process]


@pytest.mark.parametrize(("processes", "devices"), SHAPES)
def test_any_mesh_takes_the_same_steps(alone, tiny_store, tmp_path, processes, devices):
    """Batches to the bit; losses and gradients to 1e-5 in float32 and 1e-12 in float64."""
    outputs = [tmp_path / f"{i}.npz" for i in range(processes)]
    program = ["tests.helpers.steps_of_mesh", str(tiny_store)]
    assert_good(end(start([[*program, str(output)] for output in outputs], devices=devices)))
    for process, output in enumerate(outputs):
        steps = dict(np.load(output))
        assert steps.keys() == alone.keys()
        for name, array in alone.items():
            case, what = name.split("/")
            if what == "read":
                resident = not array.size
                rows = _own_rows(alone[f"{case}/row"], process, processes)
                # Batches beyond these are on their way, in no order.
                assert resident or set(map(tuple, rows)) <= set(map(tuple, steps[name])), name
                assert resident or steps[name].shape[1] == array.shape[1] // processes
            elif what in ("row", "artist"):
                np.testing.assert_array_equal(steps[name], array, err_msg=name)
            else:
                # Sums of 2,100 terms: in float32 sqrt(2,100) / 2^24 = 3e-6, times a few.
                tolerance = 1e-12 if array.dtype == np.float64 else 1e-5
                error = np.linalg.norm(steps[name] - array) / np.linalg.norm(array)
                assert error < tolerance, name


@pytest.fixture(scope="module")
def undisturbed(tiny_store, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("distributed") / "undisturbed"
    assert_good(end(start([["painterjax.train", *tiny.argv(tiny_store, path, *ARGV)]], devices=1)))
    return path


@pytest.fixture(scope="module")
def stopped(tiny_store, tmp_path_factory) -> Path:
    """A run whose writer was killed, then the other process, and then that one told to stop."""
    folder = tmp_path_factory.mktemp("distributed")
    run, other = folder / "run", folder / "other"
    stages = (
        (5, "SIGKILL", 0, [-9, 3]), (6, "SIGKILL", 1, [3, -9]), (7, "SIGTERM", 1, [143, 143])
    )  # fmt: skip
    for step, number, victim, statuses in stages:
        programs = [["painterjax.train"], ["painterjax.train"]]
        programs[victim] = ["tests.helpers.signaled", str(step), number]
        argvs = [tiny.argv(tiny_store, path, *ARGV) for path in (run, other)]
        words = [[*program, *argv] for program, argv in zip(programs, argvs, strict=True)]
        ended = end(start(words, devices=2))
        said = "\n".join(err for _, err in ended)
        assert [status for status, _ in ended] == statuses, said
        assert "Traceback" not in said
        (line,) = [x for x in ended[1 - victim][1].splitlines() if "run " in x]
        expected = processes.DIED if number == "SIGKILL" else "terminated; run it again to go on"
        assert line == f"painterjax.train: {expected}"
        # The one that does not write has touched no run folder: its own would be another.
        assert not other.exists()
    return run


def test_a_death_ends_the_others_and_a_signal_to_any_saves_the_step_that_all_agree_on(stopped):
    steps = {int(p.name) for p in (stopped / "checkpoints").glob("*") if p.name.isdecimal()}
    assert max(steps) in (8, 9)  # Told before step 8, which all know at the one behind it.


@pytest.mark.parametrize("devices", [1, 4])
def test_a_run_goes_on_with_another_number_of_processes(
    stopped, undisturbed, tiny_store, tmp_path, devices
):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    argv = tiny.argv(tiny_store, run, *ARGV)
    assert_good(end(start([["painterjax.train", *argv]], devices=devices)))
    assert (run / "evaluation.json").exists()
    for record, other in zip(records(run), records(undisturbed), strict=True):
        assert record.pop("split") == other.pop("split")
        assert record == pytest.approx(other, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("number", "statuses"), [("SIGKILL", [-9, 3]), ("SIGTERM", [143, 143])])
def test_all_stay_until_the_writer_has_evaluated(
    undisturbed, tiny_store, tmp_path, number, statuses
):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    argv = tiny.argv(tiny_store, run, *ARGV)
    words = [["tests.helpers.signaled", "evaluation", number, *argv], ["painterjax.train", *argv]]
    ended = end(start(words, devices=1))
    assert [status for status, _ in ended] == statuses, ended


def test_processes_that_would_train_otherwise_end_alike(tiny_store, tmp_path):
    argv = tiny.argv(tiny_store, tmp_path / "run", *ARGV)
    words = [["painterjax.train", *argv], ["painterjax.train", *argv, "--config.seed=3"]]
    line = (
        "painterjax.train: error: process 1 would train otherwise than process 0 (config.seed is"
        " 3, not 0): give all processes the same recipe and store"
    )
    for status, said in end(start(words, devices=1)):
        assert status == 2, said
        assert line in said.splitlines() and "Traceback" not in said
    assert not (tmp_path / "run").exists()


class _Coordinator:
    """What processes, here threads, reach each other by."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._barrier = threading.Barrier(2, timeout=300)

    def key_value_set(self, key: str, value: str, *, allow_overwrite: bool = False) -> None:
        assert allow_overwrite or key not in self._values
        self._values[key] = value

    def key_value_try_get(self, key: str) -> str:
        return self._values[key]

    def blocking_key_value_get(self, key: str, timeout_ms: int) -> str:
        deadline_s = time.monotonic() + timeout_ms / 1000
        while key not in self._values:
            if time.monotonic() > deadline_s:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")
            time.sleep(0.01)
        return self._values[key]

    def wait_at_barrier(self, _key: str, _timeout_ms: int) -> None:
        self._barrier.wait()


@pytest.fixture
def both(monkeypatch) -> Callable[..., list[str]]:
    """Runs a function for each of two processes, as threads; returns what each raised."""
    coordinator, now = _Coordinator(), type("", (threading.local,), {"meetings": 0})()
    state = type("", (threading.local,), {"process_id": 0, "joined": False})()
    state_of_all = {"client": coordinator, "num_processes": 2}
    monkeypatch.setattr(processes, "distributed", types.SimpleNamespace(global_state=state))
    monkeypatch.setattr(processes, "_Now", now)
    monkeypatch.setattr(processes, "_is_joined", lambda: state.joined)
    monkeypatch.setattr(processes, "part", lambda: setattr(state, "joined", False))
    monkeypatch.setattr(signals._Asked, "number", None)

    def outcome(place: int, function: Callable[[], object]) -> str:
        state.__dict__.update(state_of_all, process_id=place, joined=True)
        try:
            function()
        except (InputError, signals.Stopped) as error:
            assert not state.joined
            return f"{type(error).__name__}: {error}"
        return ""

    def run(*functions: Callable[[], object]) -> list[str]:
        with ThreadPoolExecutor(len(functions)) as pool:
            return list(pool.map(outcome, range(len(functions)), functions))

    return run


def _trainings(config, run: Path, **others) -> list[Callable[[], object]]:
    """A training for each process; the second one has other values of the config's keys."""
    copy = as_config(config.to_dict())
    copy.update_from_flattened_dict(others)
    return [lambda: train.train(config, run), lambda: train.train(copy, run)]


REFUSALS = {
    "another rate": ({"optimizer.learning_rate": 0.5}, "process 1 would .*config.optimizer.learn"),
    "other epochs": ({"num_epochs": 9}, r"process 1 would .*config.num_epochs is 9, not \d+\)"),
    "no store": ({"data.store": "nowhere"}, "process 1: no store at nowhere: make one"),
    "bad value": ({"seed": -1}, "process 1: seed is -1: must be 0 or above"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_one_process_refuses_all_refuse(case, both, config, tiny_store, tmp_path):
    config.data.store = str(tiny_store)
    others, message = REFUSALS[case]
    ended = both(*_trainings(config, tmp_path / "run", **others))
    assert ended[0] == ended[1] and re.match(f"InputError: {message}", ended[0]), ended
    assert not (tmp_path / "run").exists()


def test_what_all_processes_refuse_is_no_single_one_s(both, config, tmp_path):
    config.data.store = "nowhere"
    for said in both(*_trainings(config, tmp_path / "run")):
        assert said.startswith("InputError: no store at nowhere: make one")


def test_a_damaged_copy_of_the_store_ends_all(both, config, tiny_store, tmp_path, monkeypatch):
    def verify(path: Path) -> None:
        if not processes.is_writer():
            raise InputError(f"{path}/images.npy is not what prepare wrote")

    monkeypatch.setattr(train, "verify", verify)
    config.data.store = str(tiny_store)
    ended = both(*_trainings(config, tmp_path / "run"))
    assert (
        ended == [f"InputError: process 1: {tiny_store}/images.npy is not what prepare wrote"] * 2
    )


def test_a_run_folder_in_use_ends_all(both, config, tiny_store, tmp_path):
    config.data.store = str(tiny_store)
    config.model.update(widths=(8, 16), depths=(1, 1), embedding_dim=16)
    with files.claimed(tmp_path):
        ended = both(*_trainings(config, tmp_path))
    refusal = f"process 0: another process works in {tmp_path}: wait until it ends"
    assert ended == [f"InputError: {refusal}"] * 2


def test_a_full_disk_at_the_setup_is_explained_to_all(both):
    def fill() -> None:
        with processes.together():
            raise OSError(errno.ENOSPC, "No space left on device")

    def wait() -> None:
        with processes.together():
            pass

    ended = both(fill, wait)
    assert ended[0] == ended[1] and ended[0].endswith("free some space and run it again")


@pytest.mark.parametrize("place", [0, 1])
def test_who_is_told_to_stop_while_others_are_waited_for_takes_them_along(both, place):
    def told() -> None:
        with processes.together():
            raise signals.Stopped(15)

    def wait() -> None:
        with processes.together():
            pass

    assert both(*[told if i == place else wait for i in range(2)]) == ["Stopped: 15"] * 2


def test_who_waits_for_the_others_can_be_told_to_stop(both, monkeypatch):
    wait_for = processes._wait_for

    def interrupted(key: str) -> object:
        if not processes.is_writer() and signals.asked() == 0:
            signals.ask(15)
            raise signals.Stopped(15)
        return wait_for(key)

    def wait() -> None:
        with processes.together():
            while processes.is_writer() and not signals.asked():
                time.sleep(0.01)
            time.sleep(0.1)

    monkeypatch.setattr(processes, "_wait_for", interrupted)
    assert both(wait, wait) == ["Stopped: 15"] * 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two': must be a whole number"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID is '2': must be below"),
        ({"JAX_COORDINATOR_ADDRESS": "node"}, "JAX_COORDINATOR_ADDRESS is 'node': must end in"),
    ],
)
def test_a_wrong_environment_is_refused_by_the_variable_s_name(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        processes.join()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-m", "painterjax.train", "--workdir", "x"], "painterjax.train"),
        (["-u", "-W", "error", "-m", "painterjax.train"], "painterjax.train"),
        (["-c", "pass"], "painterjax"),
    ],
)
def test_last_words_begin_with_the_command_s_name(monkeypatch, words, name):
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    assert signals.started_module() == name


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name, value in zip(processes.VARIABLES, (address, "2", "0"), strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"'{address}': the first .* in use.*: choose another"):
            processes.join()


def test_who_waits_for_the_others_in_vain_had_no_bad_input():
    program = "from painterjax.distributed import processes; processes.JOIN_S = 1; processes.join()"
    address = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{_free_port()}", "JAX_NUM_PROCESSES": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tiny.ROOT, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, **address, "JAX_PROCESS_ID": "0"},
    )  # fmt: skip
    assert done.returncode == 3
    assert "painterjax: not all processes came within 300 s: start them together" in done.stderr


def test_a_batch_that_cannot_be_split_is_refused_by_its_key(config):
    config_checks.check_devices(config, 4)
    with pytest.raises(InputError, match="batch_size is 4, over 3 devices: must be divisible"):
        config_checks.check_devices(config, 3)
