"""How much memory a program needs, by the compiler."""

import jax


def temporary_bytes(lowered: jax.stages.Lowered) -> int:
    """Returns what it needs besides its arguments and results; it is compiled, not run."""
    analysis = lowered.compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes
