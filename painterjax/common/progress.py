"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import shutil
import sys
import time

import tqdm

from painterjax.common import signals

PLAIN_LINE_EVERY_S = 10.0


def counted(count: int, unit: str) -> str:
    """Returns a number with its noun.

    >>> counted(1, "painting"), counted(2000, "painting")
    ('1 painting', '2,000 paintings')
    """
    return f"{count:,} {unit}" + ("" if count == 1 else "s")


class Progress:
    """A progress bar on a terminal, a plain line every ten seconds elsewhere."""

    def __init__(self, description: str, *, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self._last_line_s = time.monotonic()
        self._last_line = ""
        self._first: tuple[float, int] | None = None  # When the first units were done, and how many
        self._shown: dict[str, str] = {}
        self._bar = None
        if sys.stderr.isatty():
            # On a terminal of unknown size tqdm alone prints nothing.
            columns, lines = shutil.get_terminal_size()
            self._bar = tqdm.tqdm(
                desc=description, total=total, unit=" " + unit, initial=done,
                ncols=columns, nrows=lines,
            )  # fmt: skip
        elif total:
            self.say(f"{description}: {done:,} of {counted(total, unit)}")

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
        if self._first is None:
            self._first = time.monotonic(), self.done
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

    def time_left(self) -> str:
        """Returns how long the rest takes at the pace so far, as in "01:30 left"; "" if unknown."""
        first_s, first = self._first or (0.0, self.done)
        if not first < self.done < self.total:
            return ""
        each_s = (time.monotonic() - first_s) / (self.done - first)
        return f"{tqdm.tqdm.format_interval(each_s * (self.total - self.done))} left"

    def _print_line(self) -> None:
        self._last_line_s = time.monotonic()
        share = 100 * self.done // max(self.total, 1)
        total = counted(self.total, self.unit)
        done = f"{self.description}: {self.done:,} of {total} ({share} %)"
        values = [f"{key} {value}" for key, value in self._shown.items()]
        line = ", ".join(filter(None, [done, self.time_left(), *values]))
        if self.total and line != self._last_line:
            self._last_line = line
            self.say(line)
