"""What a run says while it works: JSON lines, TensorBoard events, and a progress bar."""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError

# Keys with these endings hold wall-clock figures; all others are deterministic in the seed.
WALL_CLOCK = ("_s", "_ms", "_per_s")


class MetricsLog:
    """Writes records to metrics.jsonl and as TensorBoard events of the same run folder.

    Records of later steps than `last_step`, where the run goes on, are removed: they will be
    written again. Where there are none up to step `recorded`, though there were, a line says so.

    Raises:
      InputError: a line of metrics.jsonl is no record.
    """

    def __init__(self, run: Path, *, last_step: int, recorded: int = 0) -> None:
        self._path = run / "metrics.jsonl"
        kept = [record for record in read_records(run) if record["step"] <= last_step]
        found = max((record["step"] for record in kept), default=0)
        if found < recorded:
            lost = (
                f"{self._path} ends with step {found}: the records up to step {recorded} are lost"
            )
            print(f"{lost}, bring back a copy if there is one", file=sys.stderr)
        files.write_text(self._path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = open(self._path, "a", buffering=1)  # noqa: SIM115  (a line is written at once)
        # Takes a second where PyTorch is installed, which it looks for.
        from tensorboardX import record_writer
        from tensorboardX.proto import event_pb2, summary_pb2

        proto: Any = (event_pb2, summary_pb2)  # Made at run time: pyright sees nothing in them.
        self._proto, self._summary = proto[0], proto[1].Summary
        # Not its SummaryWriter: the thread of that dies on a full disk, and then flush never ends.
        self._events = record_writer.RecordWriter(str(_next_events(run)))
        self._write_event(file_version="brain.Event:2")
        # A TensorBoard reader drops the events from this step on that an earlier start wrote.
        start = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write_event(step=last_step + 1, session_log=start)

    def close(self) -> None:
        """Closes both files."""
        try:
            self._file.close()
        finally:  # On a full disk both raise.
            self._events.close()

    def write(self, *, step: int, epoch: int, split: str, values: dict[str, Any]) -> None:
        """Writes one record: a JSON line, and a TensorBoard scalar `<split>/<key>` per value.

        Raises:
          InputError: the run folder is gone.
        """
        if not _is_open_at(self._path, self._file.fileno()):
            raise InputError(f"{self._path} was removed or replaced while training: repeat the run")
        record = {"step": step, "epoch": epoch, "split": split, **values}
        self._file.write(json.dumps(record) + "\n")
        scalars = [
            self._summary.Value(tag=f"{split}/{key}", simple_value=value)
            for key, value in values.items()
        ]
        self._write_event(step=step, summary=self._summary(value=scalars))

    def write_image(self, *, step: int, title: str, image_HxWxC: np.ndarray) -> None:
        """Writes a uint8 image for TensorBoard alone."""
        from tensorboardX import summary

        image = summary.image(title, image_HxWxC, dataformats="HWC")
        self._write_event(step=step, summary=image)

    def _write_event(self, **content: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), **content)
        self._events.write(event.SerializeToString())

    def flush(self) -> None:
        """Puts all records on the disk: a checkpoint never knows of more steps than they do."""
        os.fsync(self._file.fileno())
        self._events.flush()


def _next_events(run: Path) -> Path:
    """Names an event file behind all others, as TensorBoard sorts them, however the clock jumps."""
    pattern = re.compile(r"events\.out\.tfevents\.(\d+)\.")
    earlier = [int(match[1]) for path in run.iterdir() if (match := pattern.match(path.name))]
    number = max([int(time.time()), *(number + 1 for number in earlier)])
    return run / f"events.out.tfevents.{number:010d}.{socket.gethostname()}"


def _is_open_at(path: Path, descriptor: int) -> bool:
    """Whether the file open under `descriptor` is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def read_records(run: Path) -> list[dict[str, Any]]:
    """Returns the records of a run's metrics.jsonl, in order, without one that a kill cut short.

    Raises:
      InputError: a line is no record.
    """
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = enumerate(path.read_bytes().split(b"\n")[:-1], start=1)
    return [_record(path, number, line) for number, line in lines if line]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = files.json_object(line)
        values = [value for key, value in record.items() if key != "split"]
        whole = {"step", "epoch", "split"} <= record.keys()
        if not whole or not all(isinstance(value, int | float) for value in values):
            raise ValueError("it needs step, epoch and split, and numbers")
    except ValueError as error:
        raise InputError(
            f"{path}, line {number}, is no record ({error}): delete that line or bring back a copy"
        ) from error
    return record
