"""Judging vectors of any origin: what is refused, and figures by artist, style and century."""

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from painterjax import judging
from painterjax.errors import InputError


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_its_row(value):
    emb_NxD = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    emb_NxD[5, 1] = value
    with pytest.raises(InputError, match="1 of 8 vectors, the first that of painting 5, hold NaN"):
        judging.compare(emb_NxD, np.repeat([0, 1], 4))


@pytest.mark.parametrize("scale", ["1e25", "1e-25"])
def test_figures_do_not_depend_on_the_scale(split, scale):
    rng = np.random.default_rng(0)
    emb_NxD = rng.normal(size=(6, 4))[split.artist_N] + rng.normal(size=(len(split), 4))
    row_Tx3 = judging.fixed_triplets(split, count=200)
    expected, found = (
        judging.judge(judging.compare(vectors_NxD.astype(np.float32), split.artist_N), row_Tx3)
        for vectors_NxD in (emb_NxD, emb_NxD * float(scale))
    )
    assert found.keys() == expected.keys()
    for metric, figure in found.items():
        assert figure["value"] != 1
        assert figure["value"] == pytest.approx(expected[metric]["value"], abs=1e-3)


def test_two_artists_have_no_interval_and_three_have(split):
    emb_NxD = np.random.default_rng(0).normal(size=(18, 4)).astype(np.float32)
    for artists in (2, 3):
        few = dataclasses.replace(split, artist_N=split.artist_N[: 6 * artists])
        compared = judging.compare(emb_NxD[: 6 * artists], few.artist_N)
        figures = judging.judge(compared, judging.fixed_triplets(few, count=50))
        for figure in figures.values():
            assert (figure["low"] is None) == (figure["high"] is None) == (artists == 2)
        low, high = (figures["pair_roc_auc"][end] for end in ("low", "high"))
        assert artists == 2 or (low is not None and high is not None and low < high)


def test_an_artist_s_roc_auc_is_that_of_its_pairs_by_loops(split):
    rng = np.random.default_rng(3)
    emb_NxD = rng.normal(size=(6, 4))[split.artist_N] + rng.normal(size=(len(split), 4))
    emb_NxD = emb_NxD.astype(np.float32)
    groups = judging.by_group(judging.compare(emb_NxD, split.artist_N), split)["artist"]
    assert [group["name"] for group in groups] == split.artists
    for artist, group in enumerate(groups):
        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(len(split)), 2)
            if artist in split.artist_N[[i, j]]
        ]
        is_same_P = [split.artist_N[i] == split.artist_N[j] for i, j in pairs]
        distance_P = [-np.linalg.norm(emb_NxD[i] - emb_NxD[j]) for i, j in pairs]
        expected = roc_auc_score(is_same_P, distance_P)
        assert 0.55 < expected < 1
        assert group["pair_roc_auc"] == pytest.approx(expected, abs=0.005)
