"""A Slurm cluster of one machine: its own munged, slurmctld and slurmd, as the user who tests."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.ports import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
PATH = f"{os.environ['PATH']}:/usr/sbin"  # Daemons lie there.
START_S = 30
# Nothing is measured or bound, and a job that is requeued waits as short as Slurm allows.
CONF = """
ClusterName=painterjax
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=32 RealMemory=64 Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES
"""


def is_installed() -> bool:
    """Returns whether this machine has Slurm."""
    return all(shutil.which(program, path=PATH) for program in PROGRAMS)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Starts a cluster with eight GPUs that are none; yields the environment of its commands."""
    (folder / "state").mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf, host = folder / "slurm.conf", socket.gethostname().partition(".")[0]
    ports = {"controller_port": free_port(), "node_port": free_port()}
    conf.write_text(CONF.format(folder=folder, host=host, user=getpass.getuser(), **ports))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    for number in range(8):
        (folder / f"gpu{number}").touch()
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(conf)}
    names = {"key-file": key.name, "socket": "munge.socket", "pid-file": "munge.pid",
             "log-file": "munge.log", "seed-file": "munge.seed"}  # fmt: skip
    # --force: the folders of pytest are closed to other users.
    munged = ["munged", "--foreground", "--force",
              *(f"--{name}={folder / file}" for name, file in names.items())]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with open(folder / f"{command[0]}.out", "w") as out:
                daemon = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
            stack.callback(daemon.wait, START_S)
            stack.callback(daemon.terminate)
            if command is munged:
                _wait_for(lambda: (folder / "munge.socket").exists(), folder)
        _wait_for(lambda: "idle" in _said(["sinfo", "--noheader"], environment), folder)
        yield environment


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def _wait_for(is_ready, folder: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not is_ready():
        logs = "\n".join(log.read_text() for log in folder.glob("*.out"))
        assert time.monotonic() < deadline_s, f"no cluster within {START_S} s:\n{logs}"
        time.sleep(0.1)
