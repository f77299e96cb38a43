"""Slurm and Open MPI for real, on one machine: sbatch, srun, scancel, mpirun."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import slurm, tiny
from tests.helpers.runs import assert_same

pytestmark = pytest.mark.slow

LAUNCH = tiny.ROOT / "launch"
WITHIN_S = 240  # Of a training that is requeued, on a busy machine.


class Cluster(NamedTuple):
    """A cluster and the folder to submit from."""

    folder: Path
    environment: dict[str, str]

    def say(self, *command: str | Path) -> str:
        """Returns what a command prints; it must end well."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, timeout=60,
            stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    def submit(self, *words: str) -> str:
        """Submits slurm.sh for one node with two GPUs; returns the job's number."""
        here = ("--parsable", "--gpus-per-node=2", "--ntasks-per-node=2", "--cpus-per-task=1")
        return self.say("sbatch", *here, LAUNCH / "slurm.sh", *words).strip()

    def job(self, number: str) -> dict[str, str]:
        """Returns what Slurm knows of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.say("scontrol", "show", "job", number)))

    def log(self, number: str) -> str:
        """Returns what a job has said."""
        log = self.folder / f"painterjax-{number}.log"
        return log.read_text() if log.exists() else ""


def _wait_for(is_done: Callable[[], object], said: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not is_done():
        assert time.monotonic() < deadline_s, said()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    if not slurm.is_installed():
        pytest.skip("needs Slurm's daemons: apt-get install slurm-wlm")
    folder = tmp_path_factory.mktemp("clone")
    (folder / "configs").symlink_to(tiny.ROOT / "configs")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with slurm.running(tmp_path_factory.mktemp("slurm") / "slurm") as environment:
        own = {
            **environment,
            "PYTHONPATH": str(tiny.ROOT),
            "XLA_FLAGS": tiny.TWO_DEVICES["XLA_FLAGS"],
        }
        yield Cluster(folder, own)


def test_slurm_prepares_in_shares_and_merges_them(cluster, tiny_store):
    name = "a store; of $HOME's"
    said = cluster.say(LAUNCH / "slurm-prepare.sh", "2", *tiny.STORE, "--output", name)
    assert re.fullmatch(r"jobs: \d+ decodes in 2 shares, \d+ merges\n", said)

    def logs() -> str:
        return "\n".join(log.read_text() for log in cluster.folder.glob("prepare-*.log"))

    _wait_for(lambda: not cluster.say("squeue", "--noheader"), logs)
    assert "shard 2/2 is complete" in logs()
    made = {file.name: file.read_bytes() for file in (cluster.folder / name).iterdir()}
    assert made == {file.name: file.read_bytes() for file in tiny_store.iterdir()}


def test_slurm_preempts_and_requeues_a_training_that_ends_with_the_same_bits(
    cluster, tiny_store, run_of_two
):
    run = cluster.folder / "run"
    # Slurm itself has the first words, as of the script.
    _, _, _, *words, distributed = tiny.together(tiny_store, run)
    assert distributed == "--distributed"
    job = cluster.submit(*words)
    _wait_for(lambda: (run / "config.json").exists(), lambda: cluster.log(job))
    cluster.say("scancel", "--signal=TERM", job)  # As two minutes before the end: not the script.
    _wait_for(lambda: cluster.job(job)["JobState"] == "COMPLETED", lambda: cluster.log(job))
    assert cluster.job(job)["Restarts"] == "1"
    said = cluster.log(job)
    for task in ("0: ", "1: "):
        assert f"{task}painterjax.train: terminated; run it again to continue" in said
    assert "0: train: 0 of 18 steps" in said and re.search(r"0: train: [1-9]\d* of 18 steps", said)
    assert_same(run, run_of_two)


# The statuses of both tasks in each start; with the last ones the job ends.
ENDS = {
    "done": ["0,0"],
    "bad input": ["2,2"],
    "out of time, more often than RESTARTS": ["143,143", "143,143", "0,0"],
    "another died": ["2,134", "0,0"],
    "fails too often": ["1,134", "1,1"],
}


def test_slurm_tries_again_after_a_failure_and_not_after_bad_input(cluster, tmp_path):
    """With programs of these statuses in place of the training, and RESTARTS=1."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/bash\n"
        "starts=($3)\n"  # The words of slurm.sh come behind -m painterjax.train.
        "IFS=, read -ra statuses <<<${starts[${SLURM_RESTART_COUNT:-0}]:-99}\n"
        "exit ${statuses[$SLURM_PROCID]}\n"
    )
    python.chmod(0o755)
    here = cluster._replace(folder=tmp_path, environment={**cluster.environment, "RESTARTS": "1"})
    jobs = {name: here.submit(" ".join(statuses)) for name, statuses in ENDS.items()}
    for name, job in jobs.items():
        statuses = ENDS[name]
        last = max(map(int, statuses[-1].split(",")))
        _wait_for(lambda job=job: here.job(job)["JobState"] in ("COMPLETED", "FAILED"), str)
        ended = here.job(job)
        assert (name, ended["ExitCode"]) == (name, f"{last}:0")
        assert (name, ended["Restarts"]) == (name, str(len(statuses) - 1))


@pytest.mark.skipif(not shutil.which("mpirun"), reason="needs mpirun: apt-get install openmpi-bin")
def test_open_mpi_tells_the_processes_of_each_other(tiny_store, run_of_two, tmp_path):
    here = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
    done = subprocess.run(
        ["mpirun", "-n", "2", *here, *tiny.together(tiny_store, tmp_path / "run")],
        cwd=tiny.ROOT, env=tiny.TWO_DEVICES, capture_output=True, text=True, timeout=WITHIN_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", run_of_two)
