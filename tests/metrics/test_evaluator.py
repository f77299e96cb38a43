"""All metrics of embeddings: refusals, scale, intervals; and metrics by artist and style."""

import dataclasses

import numpy as np
import pytest
from jax.experimental import multihost_utils
from sklearn.metrics import roc_auc_score

from painterjax.common.errors import InputError
from painterjax.distributed import processes
from painterjax.metrics import breakdown, evaluator, tiles
from tests.helpers import steps_of_mesh


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_its_row(value):
    emb_NxD = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    emb_NxD[5, 1] = value
    with pytest.raises(InputError, match="1 of 8 vectors, the first that of painting 5, hold NaN"):
        evaluator.compare(emb_NxD, np.repeat([0, 1], 4))


@pytest.mark.parametrize("exponent", [83, -83])
def test_metrics_do_not_depend_on_the_scale(split, exponent):
    """Scaling by a power of two, 1e25 or 1e-25, rounds nothing and changes no bit."""
    rng = np.random.default_rng(0)
    emb_NxD = rng.normal(size=(6, 4))[split.artist_N] + rng.normal(size=(len(split), 4))
    row_Tx3 = evaluator.fixed_triplets(split, count=200)
    expected, found = (
        evaluator.evaluate(
            evaluator.compare(vectors_NxD.astype(np.float32), split.artist_N), row_Tx3
        )
        for vectors_NxD in (emb_NxD, emb_NxD * 2.0**exponent)
    )
    assert found == expected
    assert all(0 < figure["value"] < 1 for figure in found.values())


def test_intervals_need_three_artists(split):
    emb_NxD = np.random.default_rng(0).normal(size=(18, 4)).astype(np.float32)
    for artists in (2, 3):
        few = dataclasses.replace(split, artist_N=split.artist_N[: 6 * artists])
        compared = evaluator.compare(emb_NxD[: 6 * artists], few.artist_N)
        figures = evaluator.evaluate(compared, evaluator.fixed_triplets(few, count=50))
        for figure in figures.values():
            assert (figure["low"] is None) == (figure["high"] is None) == (artists == 2)
        figure = figures["pair_roc_auc"]
        assert artists == 2 or figure["low"] < figure["high"]


def test_metrics_of_a_group_match_loops_over_its_pairs(split, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 16)  # 36 paintings: the last tile is not full.
    rng = np.random.default_rng(3)
    emb_NxD = rng.normal(size=(6, 4))[split.artist_N] + rng.normal(size=(len(split), 4))
    emb_NxD = emb_NxD.astype(np.float32)
    paintings = [
        dataclasses.replace(painting, style="wide" if row % 3 else "narrow", date="1889")
        for row, painting in enumerate(split.paintings)
    ]
    styled = dataclasses.replace(split, paintings=paintings)
    compared = evaluator.compare(emb_NxD, split.artist_N)
    found = breakdown.by_group(compared, styled)
    assert [group["name"] for group in found["artist"]] == split.artists
    assert [group["name"] for group in found["style"]] == ["narrow", "wide"]
    assert [group["paintings"] for group in found["century"]] == [36]
    assert [group["artists"] for group in found["style"]] == [6, 6]
    assert found["century"][0]["map_at_r"] == compared.retrieval["map_at_r"].mean(dtype=float)
    rows = {name: [6 * i + j for j in range(6)] for i, name in enumerate(split.artists)}
    rows |= {"narrow": range(0, 36, 3), "wide": [row for row in range(36) if row % 3]}
    for group in [*found["artist"], *found["style"]]:
        both = [(i, j) for i in rows[group["name"]] for j in range(36) if i != j]
        is_same_P = [split.artist_N[i] == split.artist_N[j] for i, j in both]
        nearness_P = [-np.linalg.norm(emb_NxD[i] - emb_NxD[j]) for i, j in both]
        expected = roc_auc_score(is_same_P, nearness_P)
        assert 0.55 < expected < 1
        # Pairs in one coarse bin count as ties, half right. Twice that: rounding moves some pairs.
        same_J, different_J = (
            counts_NxJ[list(rows[group["name"]])].sum(axis=0)
            for counts_NxJ in (compared.pairs.same_QxJ, compared.pairs.different_QxJ)
        )
        ties = same_J @ different_J / (same_J.sum() * different_J.sum())
        assert ties < 0.02
        assert group["pair_roc_auc"] == pytest.approx(expected, abs=ties)


def test_each_process_reads_its_share_of_the_images_for_color_histograms(split, monkeypatch):
    whole_Nx512 = evaluator.color_histograms(split.image_NxSxSxC)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own, tiled: own)
    parts, rows = [], []
    for place in range(5):  # 36 images: the last process has 4 of them.
        monkeypatch.setattr(processes, "share", lambda place=place: (place, 5))
        images = steps_of_mesh.watched(split.image_NxSxSxC)
        parts.append(evaluator.color_histograms(images))
        rows += images.rows
    assert rows == list(range(len(split)))
    np.testing.assert_array_equal(np.concatenate(parts)[: len(split)], whole_Nx512)
