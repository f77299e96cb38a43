"""The exceptions that end a command in one line."""


class InputError(ValueError):
    """Bad input or bad usage: one line with what was wrong, both values and the remedy.

    >>> print(InputError("no artist in a\\nb"))
    no artist in a\\nb
    """

    def __init__(self, message: str) -> None:
        # File names may hold line ends and terminal escape codes.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class DivergedError(ArithmeticError):
    """The loss or a gradient became infinite or NaN."""


def words_of(error: BaseException) -> str:
    """Returns what an error says in one line, without the number of an OSError."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split())
