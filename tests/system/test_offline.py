"""No command speaks to any network: all of them, with sockets forbidden and no network there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import tiny

pytestmark = pytest.mark.slow

# An audit hook sees what Python asks of the system, and cannot be taken away.
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
from painterjax import (
    attribute, benchmark, embed, evaluate, export, prepare, report, search, submit, train
)
from painterjax.pages import app, gallery
from painterjax.run.load import load_run
from starlette.testclient import TestClient
from tests.helpers import tiny
if __name__ == "__main__":
    prepare.main([*tiny.STORE, "--output", "store"])
    path = pathlib.Path("run")
    train.main(tiny.argv(pathlib.Path("store"), path, "--config.num_epochs=1"))
    run = ["--run", "run"]
    evaluate.main(run)
    embed.main([*run, "--split", "test", "--output", "vectors.npz"])
    search.main([*run, "--query", "0"])
    report.main(run)
    export.main([*run, "--output", "exported"])
    first, second, *_ = sorted((path / "index" / "thumbnails").iterdir())
    pathlib.Path("pairs.csv").write_text(f"index,image1,image2\\n0,{first.name},{second.name}\\n")
    words = ["--pairs", "pairs.csv", "--images", str(first.parent), "--workers", "1"]
    submit.main([*run, *words, "--allow-trained-on", "--output", "submission.csv"])
    attribute.main([*run, *words[2:], "--output", "attribution.csv"])
    # All of explore but the socket that it listens at.
    web_app = app.application(gallery.open_gallery(load_run(path)), host="127.0.0.1")
    asked = TestClient(web_app, base_url="http://127.0.0.1")
    assert asked.post("/api/query", content=first.read_bytes()).json()["nearest"]
    benchmark.main([*tiny.TINY, "--config.data.store=store"])
    print("whole")
"""
# A network namespace has no way out, and counts what asks for one over IPv4, C++ as well.
COUNTED = '"$@"; status=$?; cat /proc/net/snmp; exit $status'
NAMESPACE = ("unshare", "--map-root-user", "--net", "sh", "-c", COUNTED, "counted")


@pytest.fixture(scope="module")
def namespace() -> tuple[str, ...]:
    """What runs a program without a network; nothing where this machine does not permit it."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return NAMESPACE


@pytest.fixture(scope="module")
def road(namespace, tmp_path_factory) -> subprocess.CompletedProcess[str]:
    return _run(STEPS, tmp_path_factory.mktemp("road"), *namespace)


def _run(code: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    # sitecustomize is read by every Python that starts, the workers that decode as well.
    (folder / "sitecustomize.py").write_text(FORBIDDING)
    (folder / "configs").symlink_to(tiny.ROOT / "configs")
    (folder / "steps.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(tiny.ROOT)))}
    return subprocess.run(
        [*before, sys.executable, "steps.py"], cwd=folder, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip


def _asked(done: subprocess.CompletedProcess[str]) -> int:
    """How often a program in a namespace asked for a way out of it."""
    names, values = (line.split() for line in done.stdout.splitlines() if line.startswith("Ip:"))
    return int(dict(zip(names, values, strict=True))["OutNoRoutes"])


def test_no_command_opens_a_socket(road):
    assert road.returncode == 0, road.stderr[-2000:]
    assert "\nwhole\n" in road.stdout


def test_no_library_asks_for_a_network_behind_python_s_back(namespace, road):
    if not namespace:
        pytest.skip("no network namespaces: unshare --map-root-user --net fails")
    assert _asked(road) == 0


def test_the_ban_on_sockets_bans_them(tmp_path):
    done = _run("import socket\nsocket.create_connection(('127.0.0.1', 9))", tmp_path)
    assert "PermissionError: painterjax asked for" in done.stderr


def test_what_asks_for_a_network_behind_python_s_back_is_counted(namespace):
    if not namespace:
        pytest.skip("no network namespaces: unshare --map-root-user --net fails")
    words = [*namespace, "bash", "-c", ": > /dev/tcp/192.0.2.1/9"]
    assert _asked(subprocess.run(words, capture_output=True, text=True)) == 1
