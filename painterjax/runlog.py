"""What a run says while it works: JSON lines, TensorBoard events, and a progress bar."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

PLAIN_LINE_EVERY_S = 10.0
# Keys with these endings hold wall-clock figures; all others are deterministic in the seed.
WALL_CLOCK = ("_s", "_ms", "_per_s")


class Progress:
    """A progress bar on a terminal, a plain line every ten seconds elsewhere."""

    def __init__(self, description: str, *, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self._last_line_s = time.monotonic()
        self._shown: dict[str, str] = {}
        self._bar = None
        if sys.stderr.isatty():
            # On a terminal that does not tell its size tqdm by itself shows nothing.
            columns, lines = shutil.get_terminal_size()
            self._bar = tqdm.tqdm(
                desc=description, total=total, unit=" " + unit, initial=done,
                ncols=columns, nrows=lines,
            )  # fmt: skip
        else:
            self.say(f"{description}: {done} of {total} {unit}s")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()

    def advance(self, count: int = 1) -> None:
        """Counts `count` more units as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line_s > PLAIN_LINE_EVERY_S:
            self._print_line()

    def show(self, description: str, **values: str) -> None:
        """Sets the description and the values shown behind the bar."""
        self.description, self._shown = description, values
        if self._bar is not None:
            self._bar.set_description(description, refresh=False)
            self._bar.set_postfix(values, refresh=False)

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        tqdm.tqdm.write(message, file=sys.stderr)

    def _print_line(self) -> None:
        self._last_line_s = time.monotonic()
        values = "".join(f", {key} {value}" for key, value in self._shown.items())
        share = 100 * self.done // max(self.total, 1)
        line = f"{self.description}: {self.done} of {self.total} {self.unit}s ({share} %)"
        self.say(line + values)


class MetricsLog:
    """Writes records to metrics.jsonl and as TensorBoard events of the same run folder.

    Records of later steps than `last_step`, where the run goes on, are removed: they will be
    written again.
    """

    def __init__(self, run: Path, *, last_step: int) -> None:
        path = run / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= last_step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(line + "\n" for line in kept))
        temporary.replace(path)
        self._file = open(path, "a", buffering=1)  # noqa: SIM115  (a line is written at once)
        import tensorboardX  # Takes a second where PyTorch is installed, which it looks for.

        # A TensorBoard reader drops the events from purge_step on that an earlier start wrote.
        self._events = tensorboardX.SummaryWriter(str(run), purge_step=last_step + 1)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._events.close()

    def write(self, *, step: int, epoch: int, split: str, values: dict[str, Any]) -> None:
        """Writes one record: a JSON line, and a TensorBoard scalar `<split>/<key>` per value."""
        record = {"step": step, "epoch": epoch, "split": split, **values}
        self._file.write(json.dumps(record) + "\n")
        for key, value in values.items():
            self._events.add_scalar(f"{split}/{key}", value, step)

    def write_image(self, *, step: int, title: str, image_HxWxC: np.ndarray) -> None:
        """Writes a uint8 image for TensorBoard alone."""
        self._events.add_image(title, image_HxWxC, step, dataformats="HWC")

    def flush(self) -> None:
        """Hands all records to the system, so that no kill can take them."""
        self._events.flush()


def read_records(run: Path) -> list[dict[str, Any]]:
    """Returns the records of a run's metrics.jsonl, in order."""
    return [json.loads(line) for line in _lines(run / "metrics.jsonl")]


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; a line that a kill cut short is left out."""
    if not path.exists():
        return []
    return [line for line in path.read_text().split("\n")[:-1] if line]
