"""The paintings of a split as queries against those of train."""

from typing import Any

import numpy as np

from painterjax.common.progress import counted
from painterjax.data.store import Store
from painterjax.metrics import bootstrap, database, evaluator
from painterjax.metrics.tiles import sampled_rows


def have_database(store: Store, name: str) -> bool:
    """Returns whether a split's paintings can be queries: train has all their artists."""
    artists = set(store.splits[name].artists)
    return bool(artists) and artists <= set(store.splits["train"].artists)


def judge(
    store: Store, name: str, emb_by_split: dict[str, np.ndarray], *, most: int
) -> dict[str, Any]:
    """Returns metrics.database of a split against train, each {value, low, high}, and counts.

    Of more paintings than `most`, a sample of as many are queries. All processes call it together.

    Raises:
      InputError: a number of train's vectors is not finite.
    """
    split, train = store.splits[name], store.splits["train"]
    evaluator.check_finite(emb_by_split["train"])
    number = {artist: i for i, artist in enumerate(train.artists)}
    row_Q = sampled_rows(len(split), most)
    artist_Q = np.array([number[artist] for artist in split.artists])[split.artist_N[row_Q]]
    metrics = database.retrieve(
        emb_by_split[name][row_Q], artist_Q, emb_by_split["train"], train.artist_N
    )
    return {
        "paintings": len(split),
        "judged_paintings": len(row_Q),
        "artists": len(split.artists),
        "database_paintings": len(train),
        "database_artists": len(train.artists),
        **database.evaluate(metrics, artist_Q),
    }


def table(name: str, figures: dict[str, Any]) -> str:
    """Returns the figures of `judge` as lines of text."""
    lines = [
        f"  {name} as queries: {counted(figures['judged_paintings'], 'painting')} by"
        f" {counted(figures['artists'], 'artist')},"
        f" against {figures['database_paintings']} of train by {figures['database_artists']}",
        f"  {'':22}{'mAP@k':>24}{'recall@k':>24}",
    ]
    for k in database.AT:
        cells = [bootstrap.as_text(figures[f"{metric}_at_{k}"]) for metric in ("map", "recall")]
        lines.append(f"  {f'k = {k}':22}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)
