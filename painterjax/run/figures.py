"""The figures of a judged split, by name and as text."""

from collections.abc import Collection
from typing import Any

from painterjax.common.progress import counted
from painterjax.data.splits import HASHED_NAME, letters_of
from painterjax.data.store import Split
from painterjax.metrics import bootstrap

FLOORS = ("untrained", "color_histogram")


def artists_of(split: Split, trained_on: Collection[str]) -> str:
    """Returns how many artists a split has, and how many of them, in any spelling, training saw."""
    artists, known = split.artists, set(map(letters_of, trained_on))
    count = counted(len(artists), "artist")
    seen = sum(letters_of(artist) in known for artist in artists)
    kinds = {bool(HASHED_NAME.fullmatch(name)) for name in (*known, *artists)}
    if seen < len(artists) and len(kinds) > 1:
        return f"{count}, {seen} or more seen in training (some names are hashes)"
    if seen in (0, len(artists)):
        return f"{count} {'seen' if seen else 'never seen'} in training"
    return f"{count}, {seen} of them seen in training"


def floors_of(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the figures of the floors that a split's figures have, by name."""
    return {name: figures[name] for name in FLOORS if name in figures}


def metrics_of(figures: dict[str, Any]) -> list[str]:
    """Returns the names of the metrics among a split's figures."""
    return [name for name, of in figures.items() if isinstance(of, dict) and "value" in of]


def judged_paintings(figures: dict[str, Any]) -> str:
    """Returns how many paintings were judged, and of how many where they are a sample."""
    paintings = counted(figures["paintings"], "painting")
    judged = figures.get("judged_paintings", figures["paintings"])  # Older files lack it.
    return paintings if judged == figures["paintings"] else f"a sample of {judged} of {paintings}"


def table(split: Split, figures: dict[str, Any], trained_on: Collection[str]) -> str:
    """Returns a split's figures as lines of text, one column per embedding."""
    first = "trained" if "untrained" in figures else "vectors"
    columns = {first: figures, **floors_of(figures)}
    lines = [
        f"{split.name}: {judged_paintings(figures)} by {artists_of(split, trained_on)}",
        f"  {'':22}" + "".join(f"{key:>24}" for key in columns),
    ]
    for metric in metrics_of(figures):
        cells = [bootstrap.as_text(column[metric]) for column in columns.values()]
        lines.append(f"  {metric:22}" + "".join(f"{cell:>24}" for cell in cells))
    if figures["pair_roc_auc"]["low"] is None:
        lines.append(f"  no intervals: {len(split.artists)} artists")
    if "at_threshold" in figures:
        at, error = figures["at_threshold"], figures["calibration_error"]
        lines.append(
            f"  by validation: within a distance of {at['distance']:.3f} lie"
            f" {100 * at['true_positive_rate']:.0f} % of the pairs by one artist,"
            f" {100 * at['false_positive_rate']:.0f} % of the others;"
            f" probabilities are off by {error:.3f}"
        )
    return "\n".join(lines)
