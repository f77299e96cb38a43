"""What processes agree on before they train, with threads in the place of processes."""

import errno
import re
import socket
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import pytest

from painterjax import train
from painterjax.common import files
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.distributed import processes
from painterjax.run import config_checks


class _Coordinator:
    """What processes, here threads, reach each other by."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def key_value_set(self, key: str, value: str) -> None:
        with self._changed:
            assert key not in self._values
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key: str, timeout_ms: int) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: key in self._values, min(timeout_ms / 1000, 300))
            return self._values[key]


@pytest.fixture
def both(monkeypatch) -> Callable[..., list[str]]:
    """Runs a function for each of two processes, as threads; returns what each raised."""
    coordinator = _Coordinator()
    state = type("", (threading.local,), {"process_id": 0, "joined": False})()
    monkeypatch.setattr(processes, "distributed", types.SimpleNamespace(global_state=state))
    monkeypatch.setattr(processes, "_is_joined", lambda: state.joined)
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: setattr(state, "joined", False))

    def outcome(place: int, function: Callable[[], object]) -> str:
        state.__dict__.update(client=coordinator, num_processes=2, process_id=place, joined=True)
        with pytest.raises(InputError) as refusal:
            function()
        assert not state.joined
        return str(refusal.value)

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
    "another rate": ({"optimizer.learning_rate": 0.5}, "process 1 and .*optimizer.learning_rate"),
    "other epochs": ({"num_epochs": 9}, r"process 1 and .*config.num_epochs is 9, not \d+\)"),
    "no store": ({"data.store": "nowhere"}, "process 1: no store at nowhere: make one"),
    "bad value": ({"seed": -1}, "process 1: seed is -1"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_one_process_refuses_all_refuse(case, both, config, tiny_store, tmp_path):
    config.data.store = str(tiny_store)
    others, message = REFUSALS[case]
    ended = both(*_trainings(config, tmp_path / "run", **others))
    assert ended[0] == ended[1] and re.match(message, ended[0]), ended
    assert not (tmp_path / "run").exists()


def test_what_all_processes_refuse_names_none(both, config, tmp_path):
    config.data.store = "nowhere"
    for said in both(*_trainings(config, tmp_path / "run")):
        assert said.startswith("no store at nowhere")


def test_a_damaged_copy_of_the_store_ends_all(both, config, tiny_store, tmp_path, monkeypatch):
    def verify(path: Path, **_: Any) -> None:
        if not processes.is_writer():
            raise InputError(f"{path}/images.npy is damaged")

    monkeypatch.setattr(train, "verify", verify)
    config.data.store = str(tiny_store)
    ended = both(*_trainings(config, tmp_path / "run"))
    assert ended == [f"process 1: {tiny_store}/images.npy is damaged"] * 2


def test_a_run_folder_in_use_ends_all(both, config, tiny_store, tmp_path):
    config.data.store = str(tiny_store)
    with files.claimed(tmp_path):
        ended = both(*_trainings(config, tmp_path))
    assert ended[0] == ended[1] and ended[0].startswith("process 0: another process works in")


def test_a_full_disk_at_the_setup_ends_all(both):
    def fill() -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    ended = both(lambda: processes.agree(fill), lambda: processes.agree(lambda: (None, {})))
    assert ended[0] == ended[1] and ended[0].endswith("free some space and run it again")


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


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name, value in zip(processes.VARIABLES, (address, "2", "0"), strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"'{address}': process 0 .* in use.*: choose another"):
            processes.join()


def test_a_batch_that_cannot_be_split_is_refused_by_its_key(config):
    config_checks.check_devices(config, 4)
    with pytest.raises(InputError, match="batch_size is 4, over 3 devices: must be divisible"):
        config_checks.check_devices(config, 3)


@pytest.mark.parametrize(
    ("flag", "joins"),
    [("--distributed", 1), ("--distributed=true", 1), ("--distributed=false", 0),
     ("--nodistributed", 0)],
)  # fmt: skip
def test_only_distributed_joins_other_processes(flag, joins, monkeypatch):
    joined = []
    monkeypatch.setattr(processes, "join", lambda: joined.append(flag))
    monkeypatch.setattr(train, "train", lambda *_, **__: None)
    # Of another store than the synthetic one, which train would paint.
    train.main(["--config", "quickstart", "--workdir", "x", "--config.data.store=x", flag])
    assert len(joined) == joins


def test_a_flag_that_begins_like_distributed_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "join", lambda: pytest.fail("joined"))
    with pytest.raises(InputError, match="distributed_all"):
        train.main(["--config", "quickstart", "--workdir", "x", "--distributed_all"])
