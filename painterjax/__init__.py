"""painterjax: a JAX trainer for embeddings of painters' styles; load() is its Python side."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from painterjax.api import Style


def load(path: str | Path) -> "Style":
    """Loads a run's best network, or what painterjax.export wrote, ready to embed images.

    Raises:
      InputError: there is neither, or it has no checkpoint.
    """
    from painterjax import api  # Imports JAX, which commands without a network do without.

    return api.load(Path(path))
