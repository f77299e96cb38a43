"""The one exception that a user's mistake raises."""


class InputError(ValueError):
    """Bad input or bad usage: one line with what was wrong, both values and the remedy."""
