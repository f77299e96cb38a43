"""Which paintings of an index may be found, by artist, style and century."""

import dataclasses
import difflib

import numpy as np

from painterjax.common.errors import InputError
from painterjax.index.database import IndexedPainting
from painterjax.index.index import Index

SUGGESTED = 5  # values to suggest for one that the index lacks


@dataclasses.dataclass(frozen=True)
class Filters:
    """The artist, style and century of the paintings to find; or all but the query's artist."""

    artist: str | None = None
    style: str | None = None
    century: str | None = None
    other_artists: bool = False


def select(index: Index, query: IndexedPainting | None, filters: Filters) -> np.ndarray | None:
    """Returns whether each painting of the index fits the filters; None if there is no filter.

    Args:
      index: the index to search.
      query: the painting that is asked about, if it is one of the index.
      filters: what is wanted.

    Raises:
      InputError: the index has no painting with a wanted value, or the paintings of the query's
        artist are to be left out and the artist is unknown.
    """
    columns = ("artist", "style", "century")
    wanted = {name: value for name in columns if (value := getattr(filters, name)) is not None}
    selected_N = index.find(**wanted) if wanted else None
    if selected_N is not None and not selected_N.any():
        wanted = {name: _closest_value(index, name, value) for name, value in wanted.items()}
        selected_N = index.find(**wanted)
    if not filters.other_artists:
        return selected_N
    if query is None or not query.painting.artist:
        raise InputError("--other-artists needs a --query from the index whose artist is known")
    others_N = ~index.find(artist=query.painting.artist)
    return others_N if selected_N is None else others_N & selected_N


def _closest_value(index: Index, column: str, text: str) -> str:
    """The value of a column that is meant, in any case; the refusal suggests similar values."""
    values = index.values(column)
    by_folded = {value.casefold(): value for value in values}
    folded = text.casefold()
    if text in values or folded in by_folded:
        return text if text in values else by_folded[folded]
    containing = [value for key, value in by_folded.items() if folded in key]
    similar = difflib.get_close_matches(folded, by_folded, n=SUGGESTED, cutoff=0.5)
    near = list(dict.fromkeys([*containing, *(by_folded[key] for key in similar)]))[:SUGGESTED]
    if near:
        hint = f"try {', '.join(near)}"
    elif values:
        more = len(values) - SUGGESTED
        hint = f"it has {', '.join(values[:SUGGESTED])}" + (f" and {more} more" if more > 0 else "")
    else:
        hint = f"it has no {column} of any painting"
    raise InputError(f"no painting of the index has the {column} {text!r}: {hint}")
