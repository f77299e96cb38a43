"""The exceptions that end a command in one line."""


class InputError(ValueError):
    """Bad input or bad usage: one line with what was wrong, both values and the remedy.

    >>> print(InputError("no artist in a\\nb"))
    no artist in a\\nb
    """

    def __init__(self, message: str) -> None:
        # Names of files may hold line ends, and orders to a terminal.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class DivergedError(ArithmeticError):
    """Training came to a loss or gradient that is not finite."""
