"""painterjax: a JAX trainer for embeddings of painters' styles; load() is its Python side."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from painterjax import stopping

if TYPE_CHECKING:
    from painterjax.api import Style

if sys.argv[:1] == ["-m"]:  # While `python -m painterjax.train` looks for what it is to run.
    stopping.leave_at_once()


def load(path: str | Path) -> "Style":
    """Loads a run's best network, or what painterjax.export wrote, ready to embed images.

    Raises:
      InputError: there is neither, or it has no checkpoint.
    """
    from painterjax import api  # Imports JAX, which commands without a network do without.

    return api.load(Path(path))
