"""No command speaks to any network: from paintings to the report, with sockets forbidden."""

import os
import subprocess
import sys

from tests import tiny

# An audit hook sees what any library asks of the system, and cannot be taken away.
FORBIDDING = """
import sys
def forbid(event, args):
    if event == "socket.__new__" and args[1] in (2, 10):  # IPv4 and IPv6
        raise PermissionError(f"painterjax made a socket: {args}")
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        if not isinstance(args[1], (str, bytes)):  # Paths are those of sockets within the machine.
            raise PermissionError(f"painterjax asked for the network: {event} {args}")
        if event == "socket.getaddrinfo":
            raise PermissionError(f"painterjax asked for a name: {args}")
sys.addaudithook(forbid)
"""
STEPS = """
import pathlib
from painterjax import embed, evaluate, prepare, report, search, train
from tests import tiny
if __name__ == "__main__":
    prepare.main([*tiny.STORE, "--output", "store"])
    run = ["--run", "run"]
    train.main(tiny.argv(pathlib.Path("store"), pathlib.Path("run"), "--config.num_epochs=1"))
    evaluate.main(run)
    embed.main([*run, "--split", "test", "--output", "vectors.npz"])
    search.main([*run, "--query", "0"])
    report.main(run)
    print("whole")
"""


def _run(code: str, tmp_path) -> subprocess.CompletedProcess[str]:
    # sitecustomize is read by every Python that starts, the workers that decode as well.
    (tmp_path / "sitecustomize.py").write_text(FORBIDDING)
    (tmp_path / "configs").symlink_to(tiny.ROOT / "configs")
    (tmp_path / "steps.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(tiny.ROOT)))}
    return subprocess.run(
        [sys.executable, "steps.py"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip


def test_no_command_opens_a_socket(tmp_path):
    done = _run(STEPS, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "whole"


def test_the_ban_on_sockets_bans_them(tmp_path):
    done = _run("import socket\nsocket.create_connection(('127.0.0.1', 9))", tmp_path)
    assert "PermissionError: painterjax asked for" in done.stderr
