"""painterjax: a JAX trainer for embeddings of painters' styles."""

from pathlib import Path
from typing import TYPE_CHECKING

from painterjax.common import signals

if TYPE_CHECKING:
    from painterjax.run.style import StyleEmbedder

if signals.started_module().startswith("painterjax."):  # By `python -m`; an import changes nothing.
    signals.exit_at_signals()
    from painterjax.common import documentation, huge_pages

    documentation.help_if_asked(signals.started_module())
    huge_pages.start_with()


def load(path: str | Path) -> "StyleEmbedder":
    """Loads a run's best network, an exported one, or a backbone by name, ready to embed images.

    Raises:
      InputError: `path` is none of these, or the run has no checkpoint.
    """
    from painterjax.run import style  # Imports JAX, which some commands do without.

    return style.load(Path(path))
