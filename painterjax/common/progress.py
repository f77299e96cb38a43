"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import shutil
import sys
import time

import tqdm

from painterjax.common import signals

PLAIN_LINE_EVERY_S = 10.0


class Progress:
    """A progress bar on a terminal, a plain line every ten seconds elsewhere."""

    def __init__(self, description: str, *, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self._last_line_s = time.monotonic()
        self._shown: dict[str, str] = {}
        self._bar = None
        if sys.stderr.isatty():
            # On a terminal of unknown size tqdm alone prints nothing.
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
        self.close()

    def close(self) -> None:
        """Closes the bar, or prints a last line."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()

    def advance(self, count: int = 1) -> None:
        """Counts `count` more units as done; raises Stopped where a signal waits to be raised."""
        signals.raise_unless_deferred()
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last_line_s > PLAIN_LINE_EVERY_S:
            self._print_line()

    def show(self, description: str, **values: str) -> None:
        """Sets the description and the values shown after the bar."""
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
