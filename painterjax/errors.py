"""The exceptions that end a command in one line."""


class InputError(ValueError):
    """Bad input or bad usage: one line with what was wrong, both values and the remedy."""


class DivergedError(ArithmeticError):
    """Training came to a loss or gradient that is not finite."""
