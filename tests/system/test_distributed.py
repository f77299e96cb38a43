"""Many devices and processes: the same batches, losses and gradients; stops, deaths, restarts.

Processes talk through Gloo, each with some of a CPU's devices.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from painterjax.distributed import processes
from painterjax.run import evaluation
from painterjax.run.load import load_run
from tests.helpers import embeddings_of_mesh, losses_of_mesh, mesh, tiny
from tests.helpers.ports import free_port
from tests.helpers.runs import records

pytestmark = pytest.mark.slow

# Processes x devices of each.
SHAPES = [(1, 4), (2, 2)]
WITHIN_S = processes.HEARTBEAT_S + 30  # After the first process ended, all have: a minute.


def start(words: list[list[str]], *, devices: int, **more: str) -> list[subprocess.Popen]:
    """Starts a process for each list of words, together, with more of the environment."""
    count = len(words)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(count),
        **more,
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


def assert_close(figures: Any, expected: Any) -> None:
    """All numbers of nested figures agree to 1e-3, and all words are the same."""
    leaves, expected_leaves = map(jax.tree.leaves_with_path, (figures, expected))
    for (path, leaf), (expected_path, expected_leaf) in zip(leaves, expected_leaves, strict=True):
        is_word = isinstance(leaf, str)
        close = leaf if is_word else pytest.approx(leaf, rel=1e-3, abs=1e-3)
        assert (path, close) == (expected_path, expected_leaf)


def assert_good(ended: list[tuple[int, str]]) -> None:
    assert [status for status, _ in ended] == [0] * len(ended), "\n".join(err for _, err in ended)


@pytest.fixture(scope="module")
def alone(tiny_store) -> dict[str, dict[str, np.ndarray]]:
    """What one process with one device does."""
    return mesh.arrays(tiny_store)


class Together(NamedTuple):
    """What each of some processes does, with how many devices."""

    devices: int
    arrays: list[dict[str, dict[str, np.ndarray]]]
    cache: Path  # of compiled programs


@pytest.fixture(scope="module", params=SHAPES)
def together(request, tiny_store, tmp_path_factory) -> Together:
    processes, devices = request.param
    folder = tmp_path_factory.mktemp("mesh")
    outputs = [folder / f"{i}.npz" for i in range(processes)]
    words = [["tests.helpers.mesh", str(tiny_store), str(output)] for output in outputs]
    cache = folder / "cache"
    assert_good(end(start(words, devices=devices, JAX_COMPILATION_CACHE_DIR=str(cache))))
    return Together(devices, [mesh.read(output) for output in outputs], cache)


def _own_rows(row_LxBxT: np.ndarray, chunks: int, process: int, count: int) -> np.ndarray:
    """A process's share of each chunk."""
    steps, _, paintings = row_LxBxT.shape
    row_LxGxBxT = row_LxBxT.reshape(steps, chunks, -1, paintings)
    row_LxGxM = row_LxGxBxT.swapaxes(2, 3).reshape(steps, chunks, -1)
    return np.split(row_LxGxM, count, axis=2)[process]


def test_any_mesh_takes_the_same_steps(alone, together):
    """Batches to the bit; losses and gradients to 1e-5 in float32 and 1e-12 in float64."""
    expected, processes = alone["steps"], len(together.arrays)
    for process, steps in enumerate(each["steps"] for each in together.arrays):
        assert steps.keys() == expected.keys()
        for name, array in expected.items():
            case, what = name.split("/")
            if what == "read":
                resident = not array.size
                rows = _own_rows(expected[f"{case}/row"], array.shape[1], process, processes)
                # Batches beyond these are on their way, in no order.
                own, read = ({x.tobytes() for x in each} for each in (rows, steps[name]))
                assert resident or own <= read, name
                assert resident or steps[name].shape[2] == array.shape[2] // processes
            elif what in ("row", "artist"):
                np.testing.assert_array_equal(steps[name], array, err_msg=name)
            else:
                # Sums of 2,100 terms: in float32 sqrt(2,100) / 2^24 = 3e-6, times a few.
                tolerance = 1e-12 if array.dtype == np.float64 else 1e-5
                error = np.linalg.norm(steps[name] - array) / np.linalg.norm(array)
                assert error < tolerance, name


def test_only_a_process_alone_keeps_its_programs(together):
    """Those of several processes, from the cache, waited for each other forever."""
    kept = together.cache.exists() and any(together.cache.iterdir())
    assert kept == (len(together.arrays) == 1)


def test_each_device_embeds_its_share(alone, together):
    """Embeddings to 1e-6 of their length in float32 and to 1e-12 in float64."""
    devices, processes = together.devices, len(together.arrays)
    for name, array in alone["embeddings"].items():
        _, dtype, what = name.split("/", maxsplit=2)
        for place, arrays in enumerate(each["embeddings"] for each in together.arrays):
            if what.startswith("emb"):
                # Sums of 27 and 128 terms: in float32 sqrt(155) / 2^24 = 7e-7.
                tolerance = 1e-12 if dtype == "float64" else 1e-6
                error_N = np.linalg.norm(arrays[name] - array, axis=1)
                assert (error_N < tolerance * np.linalg.norm(array, axis=1)).all(), name
            elif what == "share":
                assert set(arrays[name].flat) == {embeddings_of_mesh.EACH}
                assert arrays[name].shape[1] == devices
            else:
                each, count = embeddings_of_mesh.EACH * devices, len(np.unique(array))
                batches = -(-count // (each * processes))
                row_PxN = np.arange(batches * processes * each).reshape(batches, processes, each)
                expected_N = np.minimum(row_PxN[:, place].ravel(), count - 1)
                np.testing.assert_array_equal(arrays[name], expected_N, err_msg=name)


def test_devices_share_the_comparisons_and_count_what_one_does(alone, together):
    """To the bit: counts are whole numbers, and ranks those of exact squares."""
    expected = {**alone["comparisons"]}
    devices = [each["comparisons"].pop("devices").tolist() for each in together.arrays]
    assert len(expected.pop("devices")) == 1
    assert [len(ids) for ids in devices] == [together.devices] * len(devices)
    assert len({id for ids in devices for id in ids}) == together.devices * len(devices)
    for arrays in (each["comparisons"] for each in together.arrays):
        assert arrays.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def test_each_device_has_the_pairs_of_its_anchors(alone, together):
    """Values and gradients of losses over pairs to 1e-12; no device has a table of all pairs."""
    processes = len(together.arrays)
    devices = together.devices * processes
    for losses in (each["losses"] for each in together.arrays):
        assert {name.split("/")[0] for name in losses} == {*losses_of_mesh.names(processes)}
        for name, found in losses.items():
            array = alone["losses"][name]
            if name.endswith("/tables"):
                assert array > 0 and found == 0, name
            elif name.endswith("/bytes"):  # A quarter for what is no table of pairs.
                assert found < 1.25 * array / devices, name
            else:
                error = np.linalg.norm(found - array)
                assert error <= 1e-12 * np.linalg.norm(array), name


@pytest.fixture(scope="module")
def undisturbed(tiny_store, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("distributed") / "undisturbed"
    assert_good(
        end(
            start([["painterjax.train", *tiny.argv(tiny_store, path, *tiny.OF_SEVERAL)]], devices=1)
        )
    )
    return path


def _shared_programs(said: str) -> list[tuple[str, str]]:
    """The name and shapes of each program that was compiled for the devices of all processes."""
    line = r"Compiling jit\((\w+)\) with global shapes and types (.*)\. Argument mapping: (.*)"
    return sorted(found[:2] for found in re.findall(line, said) if "Mesh(" in found[2])


def test_processes_validate_and_evaluate_together(undisturbed, run_of_two, tmp_path):
    """Figures are those of one process; on GPUs all must compile what they run together."""
    lines = (run_of_two.parent / "said").read_text().splitlines()
    said = ["\n".join(line for line in lines if line.startswith(f"[{i}] ")) for i in range(2)]
    programs, others = map(_shared_programs, said)
    assert programs == others
    # Three networks: in validation, the best one, the untrained one.
    names = [name for name, _ in programs]
    assert (names.count("train_steps"), names.count("embed_step")) == (1, 3)
    # And only the writer speaks.
    assert ["embed test, untrained" in each for each in said] == [True, False]
    assert_close(records(run_of_two), records(undisturbed))
    run = tmp_path / "run"
    shutil.copytree(run_of_two, run)
    judged = json.loads((run / "evaluation.json").read_text())
    shutil.rmtree(run / "embeddings")
    assert_close(evaluation.evaluate(load_run(run)), judged)


@pytest.fixture(scope="module")
def stopped(tiny_store, tmp_path_factory) -> Path:
    """A run whose process 1 was killed, and then got SIGTERM; process 0 is killed further below."""
    run = tmp_path_factory.mktemp("distributed") / "run"
    argv = tiny.argv(tiny_store, run, *tiny.OF_SEVERAL)
    for step, number, victim in ((5, "SIGKILL", 1), (6, "SIGTERM", 1)):
        words = [["painterjax.train", *argv], ["painterjax.train", *argv]]
        words[victim] = ["tests.helpers.signaled", str(step), number, *argv]
        ended = end(start(words, devices=2))
        statuses = [status for status, _ in ended]
        if number == "SIGKILL":
            assert statuses[victim] == -9 and statuses[1 - victim] not in (0, 2), ended
        else:
            assert statuses == [143, 143], ended
            assert all("terminated; run it again to continue" in said for _, said in ended)
    return run


def test_a_signal_to_any_process_saves_the_step_that_all_agree_on(stopped):
    """JAX's preemption service agrees within a second or so; the loop takes some more steps."""
    steps = [int(p.name) for p in (stopped / "checkpoints").glob("*") if p.name.isdecimal()]
    assert 6 < max(steps) < 72


@pytest.mark.parametrize("devices", [1, 4])
def test_a_run_goes_on_with_another_number_of_processes(
    stopped, undisturbed, tiny_store, tmp_path, devices
):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    argv = tiny.argv(tiny_store, run, *tiny.OF_SEVERAL)
    assert_good(end(start([["painterjax.train", *argv]], devices=devices)))
    assert (run / "evaluation.json").exists()
    assert_close(records(run), records(undisturbed))


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_all_wait_until_the_writer_has_evaluated(undisturbed, tiny_store, tmp_path, number):
    """A writer that ends before that takes the others with it, so that all start again."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    argv = tiny.argv(tiny_store, run, *tiny.OF_SEVERAL)
    words = [["tests.helpers.signaled", "evaluation", number, *argv], ["painterjax.train", *argv]]
    (writer, _), (other, said) = end(start(words, devices=2))
    assert writer == {"SIGKILL": -9, "SIGTERM": 143}[number]
    assert other not in (0, 2), said


def test_processes_with_different_recipes_end_alike(tiny_store, tmp_path):
    argv = tiny.argv(tiny_store, tmp_path / "run", *tiny.OF_SEVERAL)
    words = [["painterjax.train", *argv], ["painterjax.train", *argv, "--config.seed=3"]]
    for status, said in end(start(words, devices=1)):
        assert status == 2, said
        assert "process 1 and process 0 differ (config.seed is 3, not 0)" in said
        assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_processes_start_from_the_same_weights(undisturbed, tiny_store, tmp_path):
    other, run = tmp_path / "other", tmp_path / "run"
    shutil.copytree(undisturbed, other)
    steps = [int(path.name) for path in (other / "checkpoints").glob("*") if path.name.isdecimal()]
    shutil.rmtree(other / "checkpoints" / str(max(steps)))
    words = ["painterjax.train", *tiny.argv(tiny_store, run, *tiny.OF_SEVERAL), "--init-from"]
    for status, said in end(start([[*words, str(undisturbed)], [*words, str(other)]], devices=2)):
        assert status == 2, said
        assert "process 1 and process 0 differ (init_from is " in said
        assert "give all processes the same recipe, store and --init-from" in said
    assert not run.exists()
    words = [*words, str(undisturbed)]
    assert_good(end(start([words, words], devices=2)))
    assert json.loads((run / "init_from.json").read_text())["run"] == str(undisturbed)


def test_a_process_that_waits_for_the_others_in_vain_fails():
    program = "from painterjax.distributed import processes as p; p.JOIN_S = 1; p.join()"
    address = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tiny.ROOT, capture_output=True, text=True,
        timeout=300, check=False, env={**os.environ, **address, "JAX_PROCESS_ID": "0"},
    )  # fmt: skip
    assert done.returncode not in (0, 2)
