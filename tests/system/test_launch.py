"""launch/: the processes of one machine, and what is sent to Kubernetes.

Kubernetes' manifests are checked by its schemas. Their commands run with a stand-in for Python that
writes down the arguments, which painterjax then parses. Slurm is in test_launchers.py.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from painterjax import prepare, train
from painterjax.common.errors import InputError

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
MANIFESTS = ("kubernetes.yaml", "kubernetes-prepare.yaml")
SCRIPTS = [*LAUNCH.glob("*.sh"), *(ROOT / "benchmarks").glob("*.sh"), *(ROOT / ".ci").iterdir()]


def test_scripts_pass_shellcheck():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(os.access(script, os.X_OK) for script in SCRIPTS)


# One machine


def _local(count: int, script: str, **environment: str) -> subprocess.Popen:
    """Starts local.sh with a bash script as the command."""
    return subprocess.Popen(
        [LAUNCH / "local.sh", str(count), "bash", "-c", script],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _finish(process: subprocess.Popen) -> tuple[int, list[str], str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, sorted(out.splitlines()), err


def test_each_process_knows_its_place():
    script = "echo $JAX_PROCESS_ID $JAX_NUM_PROCESSES $JAX_COORDINATOR_ADDRESS; echo err >&2"
    status, out, err = _finish(_local(3, script))
    places = [re.fullmatch(r"\[(\d)\] (\d) (\d) (127\.0\.0\.1:\d+)", line) for line in out]
    assert [match and match.groups()[:3] for match in places] == [
        (number, number, "3") for number in "012"
    ]
    assert len({match[4] for match in places if match}) == 1
    assert (status, sorted(err.splitlines())) == (0, ["[0] err", "[1] err", "[2] err"])
    assert _finish(_local(1, "printf 'a\nb'")) == (0, ["a", "b"], "")


def _write_stand_in(path: Path, script: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


def test_each_process_has_a_gpu_of_its_own(tmp_path):
    script, gpus = "echo gpus ${CUDA_VISIBLE_DEVICES-unset}", {"CUDA_VISIBLE_DEVICES": "3,5"}
    assert _finish(_local(2, script, **gpus))[1] == ["[0] gpus 3", "[1] gpus 5"]
    assert _finish(_local(1, script, **gpus))[1] == ["gpus 3,5"]
    status, _, err = _finish(_local(3, script, **gpus))
    assert (status, err.count("\n")) == (2, 1)
    assert "error: 3 processes for 2 GPUs: start fewer" in err
    _write_stand_in(tmp_path / "nvidia-smi", "printf '0\\n1\\n'")
    found = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert _finish(_local(2, script, **found))[1] == ["[0] gpus 0", "[1] gpus 1"]
    assert _finish(_local(1, script, **found))[1] == ["gpus unset"]
    assert _finish(_local(3, script, **found, CUDA_VISIBLE_DEVICES=""))[0] == 0


def test_one_that_fails_ends_the_others():
    # The orphan of process 0 would keep the output open.
    script = "if [[ $JAX_PROCESS_ID == 1 ]]; then exit 7; fi; sleep 60 & exec sleep 50"
    begin_s = time.monotonic()
    status, _, err = _finish(_local(3, script))
    assert status == 7
    assert "process 1 ended with status 7" in err and "process 0 ended with status 143" in err
    assert time.monotonic() - begin_s < 10


@pytest.mark.parametrize(
    ("first", "status", "starts"),
    [(9, 0, 2), (134, 134, 3), (2, 2, 1), (143, 143, 1), (130, 130, 1)],
)
def test_it_starts_again_after_a_failure_alone(tmp_path, first, status, starts):
    """Status 9 here is of the first start only."""
    script = f"""
    echo start >> {tmp_path}/starts.$JAX_PROCESS_ID
    if [[ {first} == 9 && $(wc -l < {tmp_path}/starts.$JAX_PROCESS_ID) == 2 ]]; then exit 0; fi
    exit {first}"""
    done = _finish(_local(2, script, RESTARTS="2"))
    assert done[0] == status
    assert done[2].count("restart") == starts - 1
    assert (tmp_path / "starts.1").read_text().count("start") == starts


@pytest.mark.parametrize(
    ("first", "second", "status", "starts"),
    [
        (2, 134, 2, 1),
        (134, 2, 2, 1),
        (134, 9, 9, 2),
        (9, 134, 9, 2),
        (134, 143, 143, 1),
        (9, 2, 2, 1),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_of_two_that_fail_one_after_the_other_the_cause_counts(
    tmp_path, place, first, second, status, starts
):
    script = f"""
    echo start >> {tmp_path}/starts.$JAX_PROCESS_ID
    if [[ $JAX_PROCESS_ID == {place} ]]; then touch {tmp_path}/failed; exit {first}; fi
    until [[ -e {tmp_path}/failed ]]; do sleep 0.01; done
    exit {second}"""
    assert _finish(_local(2, script, RESTARTS="1"))[0] == status
    assert (tmp_path / f"starts.{place}").read_text().count("start") == starts


def test_one_that_was_ended_with_another_starts_again(tmp_path):
    script = f"""
    echo start >> {tmp_path}/starts.$JAX_PROCESS_ID
    if [[ $(wc -l < {tmp_path}/starts.$JAX_PROCESS_ID) == 2 ]]; then exit 0; fi
    if [[ $JAX_PROCESS_ID == 1 ]]; then exit 9; fi
    trap 'exit 143' TERM
    for i in {{1..200}}; do sleep 0.1; done"""
    status, _, err = _finish(_local(2, script, RESTARTS="1"))
    assert (status, err.count("restart 1 of 1")) == (0, 1)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv of util-linux")
def test_where_it_is_killed_its_processes_are_told_to_stop():
    script = """
    trap 'echo saved; exit 143' TERM
    echo ready
    for i in {1..200}; do sleep 0.1; done"""
    process = _local(2, script)
    assert process.stdout is not None
    assert [process.stdout.readline()[4:] for _ in range(2)] == ["ready\n", "ready\n"]
    process.kill()
    assert _finish(process)[1] == ["[0] saved", "[1] saved"]


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)]
)
def test_signals_are_passed_on_and_waited_for(sent, status):
    script = f"""
    trap 'echo told; sleep 0.5; echo saved; exit {status}' {"INT" if status == 130 else "TERM"}
    echo ready
    for i in {{1..200}}; do sleep 0.1; done"""
    process = _local(2, script, RESTARTS="3")
    assert process.stdout is not None
    assert [process.stdout.readline()[4:] for _ in range(2)] == ["ready\n", "ready\n"]
    process.send_signal(sent)
    assert _finish(process)[:2] == (status, ["[0] saved", "[0] told", "[1] saved", "[1] told"])


def test_one_that_is_told_to_stop_takes_the_others_along():
    script = """
    trap 'sleep 0.3; echo saved; exit 143' TERM
    if [[ $JAX_PROCESS_ID == 1 ]]; then kill $$; fi
    for i in {1..200}; do sleep 0.1; done"""
    assert _finish(_local(3, script))[:2] == (143, ["[0] saved", "[1] saved", "[2] saved"])


@pytest.mark.parametrize("argv", [[], ["2"], ["0", "true"], ["two", "true"]])
def test_wrong_usage_of_the_scripts_is_one_line(argv):
    for script in ("local.sh", "slurm-prepare.sh"):
        done = subprocess.run(
            [LAUNCH / script, *argv], capture_output=True, text=True, check=False, timeout=30
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"{script}: error: expected N ")


# Kubernetes


@pytest.fixture
def parse_train(monkeypatch) -> Callable[[list[str]], Path]:
    """Lets train read its command line and nothing else; returns the run folder."""
    joined: list[None] = []
    runs: list[Path] = []
    monkeypatch.setattr(train.processes, "join", lambda: joined.append(None))
    monkeypatch.setattr(train, "train", lambda _, run, *__, **___: runs.append(run))

    def parse(words: list[str]) -> Path:
        assert words[:2] == ["-m", "painterjax.train"]
        train.main([word.replace("configs/", f"{ROOT}/configs/") for word in words[2:]])
        assert len(joined) == len(runs) == 1
        return runs[0]

    return parse


def _manifests(file: str) -> dict[str, dict[str, Any]]:
    """What a file describes, by kind and name."""
    documents = yaml.safe_load_all((LAUNCH / file).read_text())
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in documents}


@pytest.mark.parametrize("version", ["1.31", "1.34"])
@pytest.mark.parametrize("file", MANIFESTS)
def test_manifests_fit_the_schemas(file, version):
    for document in _manifests(file).values():
        kubernetes_validate.validate(document, version, strict=True)
        broken = {**document, "spec": {**document["spec"], "completion": 2}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("file", MANIFESTS)
def test_names_within_a_manifest_agree(file):
    documents = _manifests(file)
    claims = {
        name for kind, name in (key.split("/") for key in documents) if kind.endswith("Claim")
    }
    for job in (d for d in documents.values() if d["kind"] == "Job"):
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]} <= claims
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
        paths = re.findall(
            r"=(/\S+)", " ".join([*container["command"], *container.get("args", [])])
        )
        assert paths and all(path.startswith(f"{mounted['work']}/") for path in paths)
        for rule in job["spec"]["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes", {})
            assert codes.get("containerName", container["name"]) == container["name"]
            assert codes.get("values", []) == sorted(codes.get("values", []))


@pytest.mark.parametrize("file", MANIFESTS)
def test_bad_input_ends_a_job_and_no_other_status_does(file):
    for job in (d for d in _manifests(file).values() if d["kind"] == "Job"):
        rules = job["spec"]["podFailurePolicy"]["rules"]
        fatal = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
        assert fatal == [[2]]


def test_manifests_share_one_claim():
    claims = [_manifests(file)["PersistentVolumeClaim/painterjax"] for file in MANIFESTS]
    assert claims[0] == claims[1]


def test_pods_of_a_training_find_each_other(parse_train):
    documents = _manifests("kubernetes.yaml")
    service, job = documents["Service/painterjax-train"], documents["Job/painterjax-train"]
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    env = {variable["name"]: variable for variable in container["env"]}
    host, _, port = env["JAX_COORDINATOR_ADDRESS"]["value"].partition(":")
    assert service["spec"]["selector"] == {"job-name": name}  # The label is the Job controller's.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert host == f"{name}-0.{pod['subdomain']}" and port.isdecimal()
    assert spec["completionMode"] == "Indexed"
    assert str(spec["completions"]) == str(spec["parallelism"]) == env["JAX_NUM_PROCESSES"]["value"]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == index
    assert container["command"][0] == "python"
    assert parse_train(container["command"][1:]) == Path("/work/runs/scratch")


def test_kubernetes_prepares_in_shares_and_merges_them(tmp_path):
    """The python of these pods writes its arguments into a log."""
    log = f"{tmp_path}/log"
    _write_stand_in(tmp_path / "python", f"{{ printf '%s\\0' \"$@\"; echo; }} >> {log}")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    documents = _manifests("kubernetes-prepare.yaml")
    jobs = [documents[f"Job/painterjax-{name}"]["spec"] for name in ("prepare", "merge")]
    (decode,), (merge,) = (job["template"]["spec"]["containers"] for job in jobs)
    assert decode["args"] == merge["args"]
    count = jobs[0]["completions"]
    assert jobs[0]["parallelism"] == count and jobs[1]["suspend"]
    for index in range(count):
        subprocess.run(
            [*decode["command"], *decode["args"]], check=True,
            env={**environment, "JOB_COMPLETION_INDEX": str(index)},
        )  # fmt: skip
    subprocess.run([*merge["command"], *merge["args"]], check=True, env=environment)
    lines = [line.split("\0")[:-1] for line in Path(log).read_text().splitlines()]
    assert {tuple(words[:2]) for words in lines} == {("-m", "painterjax.prepare")}
    *shares, whole = (words[2:] for words in lines)
    assert [share[-2:] for share in shares] == [
        ["--shard", f"{number}/{count}"] for number in range(1, count + 1)
    ]
    assert all(share[:-2] == whole for share in shares)
    for words in (*shares, whole):  # All else is in order.
        with pytest.raises(InputError, match="/work/paintings is not a folder"):
            prepare.main(words)


def test_commands_in_manifests_name_what_is_there():
    for file in MANIFESTS:
        text, documents = (LAUNCH / file).read_text(), _manifests(file)
        names = {key.partition("/")[2] for key in documents if key.startswith("Job/")}
        assert set(re.findall(r"(?:job/|job-name=)([\w-]+)", text)) <= names
        for patch in re.findall(r"--patch '(.*)'", text):
            assert json.loads(patch) == {"spec": {"suspend": False}}
