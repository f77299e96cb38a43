"""Malformed images, tables, folders, stores, configs and requests: is each refused by name?

    python -m benchmarks.malformed --output DIR [--images 1500] [--minutes 1] [--json FILE]

Each case runs in a process of its own under a limit of memory and time, and may write nothing
outside its folder. It ends accepted, or refused in one line by the error that commands show; all
else (another exception, a signal, the limit of time or memory) counts as a failure, which is named.
"""

import argparse
import collections
import contextlib
import copy
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import malformed_images
from painterjax import prepare
from painterjax.common.config import flatten
from painterjax.common.errors import InputError
from painterjax.data import catalog, images, sources, splits, store, tables
from painterjax.run import config_checks
from painterjax.run import folder as run_folder
from tests.helpers import corpus, tiny

BYTES = 3 * 2**30  # of address space
SECONDS = 60

Case = tuple[str, Callable[[], Any]]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=1, help="of clients at the web page")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    work = args.output.resolve()
    work.mkdir(parents=True)
    with open(work / "stderr.txt", "w") as quiet:
        os.dup2(quiet.fileno(), 2)  # Pillow's libraries write there.
    groups = {
        "images": image_cases(args.images),
        "tables": table_cases(work / "tables"),
        "stores": store_cases(work / "stores"),
        "configs": config_cases(),
        "runs": run_cases(work / "run"),
    }
    figures: dict[str, Any] = {"limit_bytes": BYTES, "limit_s": SECONDS}
    for name, cases in groups.items():
        figures[name] = judge(cases, work)
        print(name, json.dumps(figures[name], indent=2), flush=True)
    figures["page"] = page(work, minutes=args.minutes)
    print("page", json.dumps(figures["page"], indent=2))

    figures["environment"] = run_folder.environment()
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def page(work: Path, *, minutes: float) -> dict[str, Any]:
    """Trains a tiny run, serves it, and lets 64 abusive clients at it."""
    from tests.system import test_app_load

    trained = tiny.train(tiny.argv(work / "stores" / "whole", work / "trained"))
    assert trained.returncode == 0, trained.stderr
    with test_app_load.serving(work / "trained") as port:
        left = test_app_load.abuse(port, seconds=60 * minutes)
    return {"clients": test_app_load.CLIENTS, "minutes": minutes, **left}


def judge(cases: Iterable[Case], folder: Path) -> dict[str, Any]:
    """Runs each case; returns how many were accepted, refused for which reason, and failed."""
    outcomes = collections.Counter()
    failures, slowest, largest = {}, (0.0, ""), (0, "")
    for name, case in cases:
        outcome, seconds, peak = apart(case, folder)
        slowest, largest = max(slowest, (seconds, name)), max(largest, (peak, name))
        if outcome.startswith("failed"):
            failures[name] = outcome
        outcomes[_kind(outcome)] += 1
    return {
        "cases": outcomes.total(),
        "failures": failures,
        "accepted": outcomes.pop("accepted", 0),
        "refused": dict(outcomes.most_common()),
        "longest_s": {"value": round(slowest[0], 3), "case": slowest[1]},
        "peak_bytes": {"value": largest[0], "case": largest[1]},
    }


def apart(case: Callable[[], Any], folder: Path) -> tuple[str, float, int]:
    """Runs a case in a forked process: its outcome in one line, its seconds and its peak memory."""
    reading, writing = os.pipe()
    started_s = time.perf_counter()
    pid = os.fork()
    if not pid:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        signal.alarm(SECONDS)
        sys.addaudithook(_within(folder))
        os.write(writing, _outcome(case).encode(errors="backslashreplace")[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    _, status, usage = os.wait4(pid, 0)
    seconds, peak = time.perf_counter() - started_s, 1024 * usage.ru_maxrss
    if os.WIFSIGNALED(status):
        return f"failed: {signal.Signals(os.WTERMSIG(status)).name}", seconds, peak
    return said or f"failed: exit {status}", seconds, peak


def _outcome(case: Callable[[], Any]) -> str:
    try:
        case()
    except (InputError, images.ImageError) as error:
        text = str(error)
        return text if "\n" not in text else f"failed: several lines: {text!r}"
    except BaseException as error:
        return f"failed: {type(error).__name__}: {error}"
    return "accepted"


def _within(folder: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that lets files be written in a folder only."""

    def check(event: str, args: tuple[Any, ...]) -> None:
        names: list[Any] = []
        if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            names = [args[0]]
        elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"):
            if event != "os.truncate" and args[-1] != -1:
                return  # Relative to a folder that is open: shutil.rmtree.
            names = list(args[:2]) if event == "os.rename" else [args[0]]
        for name in names:
            if not isinstance(name, str | bytes) or os.fsdecode(name) == os.devnull:
                continue
            if not Path(os.path.realpath(os.fsdecode(name))).is_relative_to(folder):
                raise PermissionError(f"wrote outside the folder: {name!r}")

    return check


def _kind(outcome: str) -> str:
    """What a reason has in common with others: no names, no numbers."""
    if outcome.startswith("failed"):
        return "failed"
    outcome = re.sub(r"^[\w.]+ is .*?(: [mgwT]|, k)", r"KEY is VALUE\1", outcome)
    outcome = re.sub(r"lacks [^:(]*:", "lacks KEYS:", outcome)
    said = re.sub(r"'[^']*'|/\S+|\(.*\)|\[.*\]", "_", outcome)
    return re.sub(r"\d+", "N", said)[:48].strip()


def image_cases(count: int) -> Iterator[Case]:
    """Decodes every image of the corpus."""
    for name, data in malformed_images.images(count):
        yield name, lambda data=data: images.decode(data, size=64)


def table_cases(folder: Path) -> Iterator[Case]:
    """Lists every table and loads all paintings that it names; each is named or has pixels."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for i, name in enumerate(("jpeg", "png", "gif", "tiff")):
        (pictures / f"{i}.png").write_bytes(corpus.pictures()[name])
    (folder / "outside.png").write_bytes(corpus.pictures()["png"])
    os.mkfifo(pictures / "fifo")
    (pictures / "link").symlink_to("link")
    (pictures / "circle").symlink_to(pictures)
    path = folder / "table.csv"
    for name, data in corpus.tables().items():

        def case(name: str = name, data: bytes = data) -> None:
            path.write_bytes(data)
            source = sources.csv_table(path, pictures)
            reasons = [_load(source, painting) for painting in source.paintings]
            if name.startswith("climbing"):
                raise images.ImageError(next(filter(None, reasons)))
            rows, _ = splits.by_artist(source.paintings, test_fraction=0.2, val_fraction=0, seed=0)
            assert tables.from_csv(tables.to_csv(rows)).to_pylist() == rows.to_pylist()
            tables.write_rows(folder / tables.PARQUET, rows)
            assert tables.read_rows(folder / tables.PARQUET).to_pylist() == rows.to_pylist()

        yield name, case


def _load(source: sources.Source, painting: catalog.Painting) -> str | None:
    try:
        source.load(painting, 32)
    except images.ImageError as reason:
        return str(reason)
    return None


def store_cases(folder: Path) -> Iterator[Case]:
    """Opens damaged copies of a store, and checks their hashes."""
    whole = folder / "whole"
    prepare.main([*tiny.STORE, "--output", str(whole)])
    names = ("dataset.json", *store.FILES)
    content = {name: (whole / name).read_bytes() for name in names}
    for name, data in corpus.json_damages(content["dataset.json"].decode(), 100):
        yield f"dataset.json {name}", _opening(folder / "copy", {**content, "dataset.json": data})
    for name in store.FILES:
        for how, data in _damaged(content[name]):
            damaged = {**content, name: data}
            yield f"{name} {how}", _opening(folder / "copy", damaged)
            if name == tables.PARQUET:
                yield f"{name} {how}, sealed", _opening(folder / "copy", _sealed(damaged))


def _damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from malformed_images.truncated({"cut": data})
    for i in range(30):
        yield corpus.mutated({"damaged": data}, seed=1, index=i)


def _sealed(content: dict[str, bytes]) -> dict[str, bytes]:
    """As if whoever damaged the rows had known how to hide it."""
    info = json.loads(content["dataset.json"])
    info["sha256"][tables.PARQUET] = hashlib.sha256(content[tables.PARQUET]).hexdigest()
    return {**content, "dataset.json": json.dumps(info).encode()}


def _opening(place: Path, content: dict[str, bytes]) -> Callable[[], Any]:
    def case() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, data in content.items():
            (place / name).write_bytes(data)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare.main([*tiny.STORE, "--output", str(place)])  # Checks what is there.
        assert sum(map(len, store.open_store(place).splits.values())) == 64

    return case


def config_cases() -> Iterator[Case]:
    """Checks recipes that have a wrong value, of every type, for every key."""
    from configs import default

    for key in flatten(default.get_config().to_dict()):
        for wrong in corpus.WRONG:
            config = copy.deepcopy(default.get_config())
            _set(config, key, wrong)

            def case(config: Any = config) -> None:
                config_checks.check_keys(config)
                config_checks.check(config, image_size=256)

            yield f"{key} is {wrong!r}", case


def _set(config: Any, key: str, value: Any) -> None:
    group, _, name = key.rpartition(".")
    holder = config[group] if group else config
    with holder.unlocked(), holder.ignore_type():
        holder[name] = value


def run_cases(folder: Path) -> Iterator[Case]:
    """Reads damaged papers of a run, as every command does that takes one."""
    from configs import default

    folder.mkdir()
    (folder / "dataset.json").write_text('{"image_size": 64}')
    text = json.dumps(default.get_config().to_dict())

    def case(data: bytes) -> None:
        (folder / "config.json").write_bytes(data)
        config = run_folder.read_config(folder)
        config_checks.check_keys(config)
        config_checks.check(config, image_size=run_folder.read_image_size(folder))

    for name, data in corpus.json_damages(text, 200):
        yield f"config.json {name}", lambda data=data: case(data)


if __name__ == "__main__":
    main()
