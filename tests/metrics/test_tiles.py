"""A sample that is compared with all: its figures are those of all, and its intervals hold them."""

import numpy as np
import pytest

from painterjax.metrics import bootstrap, evaluator, tiles
from painterjax.metrics.evaluator import Comparison
from painterjax.metrics.pairs import pair_roc_auc
from painterjax.metrics.tiles import sampled_rows


def _collection(rng: np.random.Generator, count_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around their artists' centers, which differ in their spread."""
    artist_N, artists = np.repeat(np.arange(len(count_A)), count_A), len(count_A)
    noise_NxD = rng.normal(size=(len(artist_N), 6)) * rng.uniform(0.5, 1.5, artists)[artist_N, None]
    emb_NxD = rng.normal(size=(artists, 6))[artist_N] + noise_NxD
    return emb_NxD.astype(np.float32), artist_N


@pytest.mark.parametrize(("count", "most"), [(1000, 300), (1000, 999), (7, 7), (7, 8), (1, 1)])
def test_a_sample_has_its_share_of_every_artist(count, most):
    row_Q = sampled_rows(count, most)
    assert len(row_Q) == min(count, most) and row_Q[-1] < count
    assert (np.diff(row_Q) > 0).all()
    share = len(row_Q) / count
    artist_N = np.arange(count) // 10
    found_A = np.bincount(artist_N[row_Q], minlength=artist_N[-1] + 1)
    # Rounded up or down.
    assert (np.abs(found_A - share * np.bincount(artist_N)) < 1).all()


@pytest.fixture(scope="module")
def compared() -> tuple[Comparison, Comparison]:
    """All paintings and a third of them, each compared with all, in tiles that are not full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", 64)
        rng = np.random.default_rng(0)
        emb_NxD, artist_N = _collection(rng, rng.integers(1, 20, 60))
        return evaluator.compare(emb_NxD, artist_N), evaluator.compare(emb_NxD, artist_N, most=200)


def test_what_is_sampled_is_ranked_and_paired_as_among_all(compared):
    whole, sample = compared
    row_Q = sample.query_Q
    assert 200 == len(row_Q) < len(whole.artist_N) / 2
    others_N = np.setdiff1d(np.arange(len(whole.artist_N)), row_Q)
    for key, value_N in sample.retrieval.items():
        np.testing.assert_array_equal(value_N[row_Q], whole.retrieval[key][row_Q])
        assert np.isnan(value_N[others_N]).all()
    for key in ("same_QxJ", "different_QxJ"):  # No memory for what was not drawn.
        found_QxJ, expected_NxJ = getattr(sample.pairs, key), getattr(whole.pairs, key)
        np.testing.assert_array_equal(found_QxJ, expected_NxJ[row_Q])


def test_each_pair_of_a_sampled_painting_counts_once_for_it(compared):
    _, sample = compared
    pairs, others = sample.pairs, len(sample.artist_N) - 1
    assert pairs.same_K.sum() + pairs.different_K.sum() == len(sample.query_Q) * others
    assert pairs.same_K.sum() == pairs.same_QxJ.sum() == pairs.same_GxJ.sum()
    assert pairs.different_K.sum() == pairs.different_QxJ.sum() == pairs.different_GxGxJ.sum()


@pytest.mark.slow
def test_intervals_of_a_sample_hold_what_other_artists_would_give():
    """Of 75 collections of 28 artists, a quarter of whose paintings are sampled."""
    rng, counts = np.random.default_rng(0), np.full(28, 16)
    truths = [_figures(evaluator.compare(*_collection(rng, counts))) for _ in range(100)]
    held = dict.fromkeys(truths[0], 0)
    for _ in range(75):
        compared = evaluator.compare(*_collection(rng, counts), most=112)
        drawn = {"replicates": 200, "seed": 0}
        counted_N = ~np.isnan(compared.retrieval["map_at_r"])
        ranked = {key: compared.retrieval[key][counted_N] for key in ("recall_at_1", "map_at_r")}
        intervals = bootstrap.mean_intervals(ranked, compared.artist_N[counted_N], **drawn)
        intervals |= bootstrap.pair_intervals(compared.pairs, **drawn)
        for key in held:
            truth = np.mean([figures[key] for figures in truths])
            held[key] += intervals[key]["low"] <= truth <= intervals[key]["high"]
    # If each is held with a chance of 95 %, less than 65 of 75 are held once in 800 times.
    assert min(held.values()) >= 65, held


def _figures(compared: Comparison) -> dict[str, float]:
    ranked = {key: float(compared.retrieval[key].mean()) for key in ("recall_at_1", "map_at_r")}
    return {
        **ranked,
        "pair_roc_auc": pair_roc_auc(compared.pairs.same_K, compared.pairs.different_K),
    }
