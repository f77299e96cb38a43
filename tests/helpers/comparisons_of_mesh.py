"""Comparisons of embeddings: what any number of devices must agree on."""

import jax
import numpy as np
import pytest

from painterjax.metrics import database, evaluator, retrieval, tiles

PAIRS = ("same_K", "different_K", "edge_E", "same_QxJ", "different_QxJ", "same_GxJ")


def all_cases() -> dict[str, np.ndarray]:
    """Metrics and counts of all paintings and of a sample; and the devices that computed."""
    rng, computed = np.random.default_rng(0), []
    artist_N = np.repeat(np.arange(20), rng.integers(2, 9, 20))
    # Whole numbers, whose squares are exact in any order; many distances are equal.
    emb_NxD = rng.integers(0, 4, (len(artist_N), 5)).astype(np.float32)
    arrays = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", 16)
        run = tiles.Comparisons.run

        def watched(*arguments):
            for first, second, result in run(*arguments):
                computed.extend(device.id for device in jax.tree.leaves(result)[0].devices())
                yield first, second, result

        patch.setattr(tiles.Comparisons, "run", watched)
        for name, most in (("all", None), ("sample", 40)):
            compared = evaluator.compare(emb_NxD, artist_N, most=most)
            arrays |= {f"{name}/{key}": of for key, of in compared.retrieval.items()}
            arrays |= {f"{name}/{key}": getattr(compared.pairs, key) for key in PAIRS}
            alone = retrieval.retrieval(emb_NxD, artist_N, compared.query_Q)
            arrays |= {f"{name}/alone/{key}": of for key, of in alone.items()}
        found = database.retrieve(emb_NxD[:40], artist_N[:40], emb_NxD[40:], artist_N[40:])
    return {**arrays, **found, "devices": np.unique(computed)}
