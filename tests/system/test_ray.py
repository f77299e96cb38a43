"""--ray: a real cluster of two nodes on this machine, of which one dies."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from painterjax import embed, prepare
from painterjax.common import ray_pool
from painterjax.common.errors import InputError
from painterjax.data import synthetic

ANSWERS_WITHIN_S = 30  # With the start of Python on a busy machine.
# Ray's processes begin with a fork that becomes another program at once; JAX warns of all forks.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a core each."""
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    noticed_soon = {"health_check_period_ms": 200, "health_check_failure_threshold": 3}
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2**27}
    head = {**node, "include_dashboard": False, "_system_config": noticed_soon}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(**node)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def paintings(tmp_path_factory) -> Path:
    """12 chunks of images so large that decoding takes a while, and two files that are none."""
    folder = tmp_path_factory.mktemp("ray") / "paintings"
    for artist, number in np.ndindex(6, 16):
        small = synthetic.paint(seed=0, artist=artist, painting=number, size=64)
        file = folder / str(artist) / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((1200, 1200)).save(file)
    (folder / "0" / "notes.txt").write_text("of 1889")
    (folder / "5" / "broken.jpg").write_bytes((folder / "5" / "0.jpg").read_bytes()[:99])
    an_hour_ago_s = time.time() - 3600  # Of files just written, when they were is no stamp.
    for file in folder.rglob("*.jpg"):
        os.utime(file, (an_hour_ago_s, an_hour_ago_s))
    return folder


def _command(name: str, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", f"painterjax.{name}", *map(str, words)]


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers")
def test_a_cluster_of_which_a_node_dies_makes_the_bytes_of_one_process(
    cluster, paintings, run, tmp_path, monkeypatch
):
    words = ["folder", "--input", str(paintings), "--image-size", "32", "--output"]
    prepare.main([*words, str(tmp_path / "alone")])
    embed_words = ["--run", str(run), "--images", str(paintings), "--output"]
    embed.main([*embed_words, str(tmp_path / "alone.npz")])

    monkeypatch.chdir(paintings.parent)  # The nodes have other folders.
    words = [word.replace(str(paintings), paintings.name) for word in words]
    on_cluster = ["--ray", cluster.address]
    process = subprocess.Popen(_command("prepare", *words, tmp_path / "together", *on_cluster))
    results = tmp_path / "together.partial" / "decoded.jsonl"
    while process.poll() is None and not (results.exists() and results.stat().st_size):
        time.sleep(0.01)
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    assert process.poll() is None, "it ended before the node died"
    assert process.wait(120) == 0
    assert _files(tmp_path / "together") == _files(tmp_path / "alone")
    assert b"notes.txt" in _files(tmp_path / "together")["rejected.csv"]

    subprocess.run(
        _command("embed", *embed_words, tmp_path / "together.npz", *on_cluster), check=True
    )
    together, alone = (np.load(tmp_path / f"{name}.npz") for name in ("together", "alone"))
    assert sorted(together) == sorted(alone)
    for key in alone:
        np.testing.assert_array_equal(together[key], alone[key])


@pytest.mark.slow
def test_an_address_at_which_there_is_no_cluster_is_one_line(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    words = ["synthetic", "--output", tmp_path / "store", "--ray"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(100)

        threading.Thread(target=answer, daemon=True).start()
        done = subprocess.run(
            _command("prepare", *words, f"127.0.0.1:{port}"), capture_output=True, text=True,
            timeout=ANSWERS_WITHIN_S, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"--ray 127.0.0.1:{port}: what listens there is not Ray: give HOST" in done.stderr
    begin_s = time.monotonic()
    for address, reason in (
        (f"127.0.0.1:{port}", "Connection refused"),
        ("auto", "invalid literal"),
    ):
        with pytest.raises(InputError, match=f"{reason}.*: give HOST:PORT at which `ray start"):
            prepare.main([*map(str, words), address])
    assert time.monotonic() - begin_s < 2 * ray_pool.ANSWER_S


def test_ray_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--ray needs Ray: pip install 'painterjax\[ray\]'"):
        prepare.main(["synthetic", "--output", str(tmp_path / "store"), "--ray", "10.0.0.1:6379"])
    with pytest.raises(InputError, match="--ray: not allowed with argument --workers"):
        words = ["--workers", "777", "--ray", "10.0.0.1:6379"]
        prepare.main(["synthetic", "--output", str(tmp_path / "store"), *words])
