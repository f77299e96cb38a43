"""Metrics of triplets on a table checked by hand, and confidence intervals."""

import numpy as np
import pytest

from benchmarks import intervals
from painterjax.metrics import bootstrap, triplets


def test_triplet_metrics_on_a_table_checked_by_hand():
    positive_T = np.array([1.0, 4.0, 2.0, 2.0, 5.0])
    negative_T = np.array([2.0, 3.0, 2.0, 9.0, 1.0])
    assert triplets.triplet_accuracy(positive_T, negative_T) == 2 / 5
    # Sums of two squares: 17 < 13 is wrong, 8 < 85 is right, and the last alone, 25 < 1, is wrong.
    assert triplets.mean_of_two_accuracy(positive_T, negative_T) == pytest.approx(1 / 3)
    # The distances themselves are in order: 1 + 4 < 3 + 3.
    assert triplets.mean_of_two_accuracy(np.array([1.0, 4.0]), np.array([3.0, 3.0])) > 0.5


def test_interval_holds_the_value_and_narrows_with_more_artists():
    widths = []
    for artists in (20, 2000):
        rng = np.random.default_rng(0)
        artist_N = np.repeat(np.arange(artists), 4)
        value_N = (rng.normal(size=artists)[artist_N] + rng.normal(size=4 * artists)).round(3)
        drawn = {"replicates": 500, "seed": 0}
        interval = bootstrap.mean_intervals({"mean": value_N}, artist_N, **drawn)["mean"]
        low, value, high = (interval[key] or 0.0 for key in ("low", "value", "high"))
        assert low < value < high
        widths.append(high - low)
    # The standard error of a mean of 2000 artists: sqrt((1 + 1 / 4) / 2000), 1.96 to each side.
    # By 500 draws the width has a standard error of 4 %, by the 2000 artists of 2 %.
    assert widths[1] == pytest.approx(2 * 1.96 * (1.25 / 2000) ** 0.5, rel=0.1)
    assert widths[0] > 5 * widths[1]


def test_interval_depends_on_its_seed_alone():
    emb_N, artist_N = np.arange(12.0) % 5, np.repeat(np.arange(4), 3)
    for draw in (
        lambda seed: bootstrap.mean_intervals({"": emb_N}, artist_N, replicates=50, seed=seed),
        lambda seed: bootstrap.intervals(
            {"": lambda x: float(x.mean())}, artist_N[:, None], emb_N, replicates=50, seed=seed
        ),
    ):
        assert draw(0) == draw(0)
        assert draw(0) != draw(1)


def test_the_mean_of_drawn_paintings_is_that_of_drawn_artists_sums():
    """Also of artists with other numbers of paintings; the draws are others."""
    rng = np.random.default_rng(0)
    artist_N = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    value_N = rng.normal(size=60)[artist_N] + rng.normal(size=len(artist_N))
    drawn = {"replicates": 4000, "seed": 0}
    ours = bootstrap.mean_intervals({"mean": value_N}, artist_N, **drawn)["mean"]
    of_paintings = {"mean": lambda x: float(x.mean())}
    expected = bootstrap.intervals(of_paintings, artist_N[:, None], value_N, **drawn)["mean"]
    assert ours["value"] == expected["value"]
    # An end by 4,000 draws has a standard error of 1.1 % of the interval; three of two such.
    error = 0.05 * (expected["high"] - expected["low"])
    assert ours["low"] == pytest.approx(expected["low"], abs=error)
    assert ours["high"] == pytest.approx(expected["high"], abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("variety", intervals.VARIETIES)
@pytest.mark.parametrize("name", intervals.METRICS)
def test_intervals_of_triplets_hold_what_other_artists_would_give(name, variety):
    held = intervals.count_held(name, variety, collections=75)
    # If each is held with a chance of 95 %, less than 65 of 75 are held once in 800 times.
    assert held["all_artists"] >= 65, held
    # Resampling by one of the two artists misses what the other contributes.
    assert variety or held["anchors_artists"] < 65, held
