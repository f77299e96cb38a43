"""Attribution against SciPy's densities, on synthetic artists with known answers."""

from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from painterjax.common.errors import InputError
from painterjax.metrics import attribution
from painterjax.metrics.attribution import Attribution, collect

DIMS, WITHIN, BETWEEN = 5, 0.6, 1.7
MEAN = np.linspace(-1, 1, DIMS)
MODEL = Attribution(MEAN.tolist(), WITHIN, BETWEEN, temperature=1.0)


def _paintings(rng, counts) -> tuple[np.ndarray, np.ndarray]:
    """Paintings as the model has them, so many by each artist."""
    artist_N = np.repeat(np.arange(len(counts)), counts)
    style_AxD = MEAN[None] + np.sqrt(BETWEEN) * rng.normal(size=(len(counts), DIMS))
    noise_NxD = np.sqrt(WITHIN) * rng.normal(size=(len(artist_N), DIMS))
    return style_AxD[artist_N] + noise_NxD, artist_N


def _by_joint_densities(query_D, emb_NxD, artist_N, *, temperature, someone_else) -> np.ndarray:
    """Posteriors from the ratios of joint densities with and without the query, of SciPy."""
    logs = []
    for rows in [*(np.flatnonzero(artist_N == a) for a in range(artist_N.max() + 1)), []]:
        joint = [0.0]
        for paintings_NxD in (emb_NxD[rows], np.vstack([emb_NxD[rows], query_D[None]])):
            count = len(paintings_NxD)
            covariance: Any = WITHIN * np.eye(count) + BETWEEN * np.ones((count, count))
            if count:
                of_directions = (
                    multivariate_normal(np.full(count, mean), covariance).logpdf(x_N)
                    for mean, x_N in zip(MEAN, paintings_NxD.T, strict=True)
                )
                joint.append(sum(of_directions))
        logs.append(temperature * (joint[-1] - joint[-2]))
    artists = len(logs) - 1
    prior = np.log([(1 - someone_else) / artists] * artists + [someone_else])
    return np.exp(log_softmax(np.array(logs) + prior))


@pytest.mark.parametrize(("temperature", "someone_else"), [(1.0, 0.5), (0.3, 0.1)])
def test_probabilities_are_those_of_joint_normal_densities(temperature, someone_else):
    rng = np.random.default_rng(0)
    emb_NxD, artist_N = _paintings(rng, [1, 4, 9, 2])
    query_QxD = np.concatenate([emb_NxD[[0, 3]] + 0.3, MEAN[None] + rng.normal(size=(3, DIMS))])
    model = Attribution(MEAN.tolist(), WITHIN, BETWEEN, temperature)
    found = model.probabilities(
        query_QxD, collect(emb_NxD, [f"artist {a}" for a in artist_N]), someone_else=someone_else
    )
    given = {"temperature": temperature, "someone_else": someone_else}
    expected = [_by_joint_densities(query_D, emb_NxD, artist_N, **given) for query_D in query_QxD]
    # Float64, of matrices of up to ten rows.
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_a_painting_is_no_evidence_for_itself():
    """It counts as if the collection lacked it; an artist without another has probability 0."""
    emb_NxD, artist_N = _paintings(np.random.default_rng(1), [3, 1, 5])
    names = np.array(["a", "b", "c"])[artist_N]
    own_QxA = np.eye(3)[artist_N]
    found = MODEL.probabilities(emb_NxD, collect(emb_NxD, names.tolist()), own_QxA=own_QxA)
    assert (found[3, 1], found[4, 1] > 0) == (0, True)
    for row in range(len(emb_NxD)):
        others = np.delete(emb_NxD, row, axis=0), np.delete(names, row).tolist()
        expected = MODEL.probabilities(emb_NxD[row : row + 1], collect(*others))[0]
        np.testing.assert_allclose(found[row][found[row] > 0], expected, rtol=1e-9)


def test_of_equal_means_the_one_of_more_paintings_is_more_certain():
    style_D = MEAN + 3.0
    emb_NxD = np.repeat(style_D[None], 21, axis=0)
    few_or_many = collect(emb_NxD, ["few"] + ["many"] * 20)
    assert few_or_many.artists == ["few", "many"]
    near, far = MODEL.probabilities(np.stack([style_D, -style_D]), few_or_many)
    assert near[1] > near[0] > near[2]
    assert far[2] > far[0] > far[1]


def test_a_collection_does_not_depend_on_how_it_was_put_together():
    emb_NxD, artist_N = _paintings(np.random.default_rng(2), [3, 2, 4])
    names = np.array(["b", "a", ""])[artist_N].tolist()
    whole = collect(emb_NxD, names)
    assert (whole.artists, whole.count_A.tolist()) == (["a", "b"], [2, 3])
    np.testing.assert_allclose(whole.sum_AxD[0], emb_NxD[3:5].sum(0))
    merged = attribution.merge([collect(emb_NxD[s], names[s]) for s in (slice(4), slice(4, None))])
    assert (merged.artists, merged.count_A.tolist()) == (whole.artists, whole.count_A.tolist())
    np.testing.assert_allclose(merged.sum_AxD, whole.sum_AxD)
    nobody = MODEL.probabilities(emb_NxD, collect(emb_NxD[:2], ["", ""]))
    assert (nobody == 1).all() and nobody.shape == (len(emb_NxD), 1)


def test_what_is_fitted_knows_the_unknown_and_is_calibrated(monkeypatch):
    """As the paintings are drawn by the model, its own numbers can hardly be bettered."""
    monkeypatch.setattr(attribution, "BLOCK_BYTES", 2**13)
    rng = np.random.default_rng(3)
    emb_NxD, artist_N = _paintings(rng, rng.integers(1, 12, size=120))
    # Numbers of artists need not be consecutive, and paintings not be in their order.
    order = rng.permutation(len(emb_NxD))
    fitted = attribution.fit(emb_NxD[order], 7 * artist_N[order])
    np.testing.assert_allclose(fitted.mean, emb_NxD.mean(0), atol=0.4)
    new_NxD, by_N = _paintings(rng, [10] * 120)
    is_known_N = by_N < 60
    is_query_N = np.arange(len(by_N)) % 2 == 0
    rows = np.flatnonzero(is_known_N & ~is_query_N)
    of = collect(new_NxD[rows], [f"{a:02}" for a in by_N[rows]])
    right_Q = np.minimum(by_N, 60)[is_query_N]
    losses = []
    for model in (fitted, MODEL):
        found_QxB = model.probabilities(new_NxD[is_query_N], of)
        losses.append(-np.log(found_QxB[np.arange(len(right_Q)), right_Q]).mean())
    found_QxB = fitted.probabilities(new_NxD[is_query_N], of)
    confidence_Q, is_right_Q = found_QxB.max(1), found_QxB.argmax(1) == right_Q
    assert is_right_Q.mean() > 0.5
    assert roc_auc_score(right_Q == 60, found_QxB[:, -1]) > 0.7
    # Both are means over 600 queries, whose standard errors are below 0.5 / sqrt(600) = 0.02.
    assert abs(confidence_Q.mean() - is_right_Q.mean()) < 0.06
    assert losses[0] < losses[1] + 0.02


def test_a_fit_is_a_minimum(monkeypatch):
    """No other numbers nearby have a smaller loss, by a plain loop over paintings left out."""
    emb_NxD, artist_N = _paintings(np.random.default_rng(4), [4] * 12)
    monkeypatch.setattr(attribution, "REGULARIZATION", 0.0)
    fitted = attribution.fit(emb_NxD, artist_N)

    def loss(model: Attribution) -> float:
        logs = []
        for row, artist in enumerate(artist_N):
            others = artist_N != artist
            known = others | (np.arange(len(artist_N)) != row)
            for rows, answer in ((known, artist), (others, -1)):
                of = collect(emb_NxD[rows], [f"{a:02}" for a in artist_N[rows]])
                logs.append(np.log(model.probabilities(emb_NxD[row : row + 1], of)[0, answer]))
        return -float(np.mean(logs))

    least = loss(fitted)
    for name in ("within", "between", "temperature"):
        for factor in (0.8, 1.25):
            changed = {**vars(fitted), name: factor * getattr(fitted, name)}
            assert loss(Attribution(**changed)) > least, (name, factor)


def test_each_painting_is_asked_about_with_and_without_its_artist():
    emb_NxD, artist_N = _paintings(np.random.default_rng(5), [3, 1, 4])
    names = np.array(["a", "b", "c"])[artist_N]
    found_MxB, right_M = attribution.ask(MODEL, emb_NxD, 5 * artist_N)
    rows = np.flatnonzero(artist_N != 1)  # The only painting of an artist has no answer.
    assert right_M.tolist() == [*artist_N[rows], *[3] * len(rows)]
    for place, row in enumerate(rows):
        others = np.arange(len(artist_N)) != row
        without = artist_N != artist_N[row]
        for found_B, kept in ((found_MxB[place], others), (found_MxB[len(rows) + place], without)):
            of = collect(emb_NxD[kept], names[kept].tolist())
            expected_B = MODEL.probabilities(emb_NxD[row : row + 1], of)[0]
            np.testing.assert_allclose(found_B[found_B > 0], expected_B, rtol=1e-9)


@pytest.mark.parametrize("someone_else", [0.0, 1.0, -1.0, float("nan")])
def test_a_prior_that_is_no_probability_is_refused(someone_else):
    with pytest.raises(InputError, match=rf"given {someone_else}: must be above 0 and below 1"):
        MODEL.probabilities(np.zeros((1, DIMS)), collect(np.zeros((1, DIMS)), ["a"]),
                            someone_else=someone_else)  # fmt: skip


def test_it_sees_the_numbers_that_come_first_where_the_others_tell_nothing(monkeypatch):
    monkeypatch.setattr(attribution, "DIMS", DIMS)
    rng = np.random.default_rng(6)
    emb_NxD, artist_N = _paintings(rng, [8] * 30)
    noise_NxD = rng.normal(scale=2, size=emb_NxD.shape)
    first, last = (
        attribution.fit(np.concatenate(parts, axis=1), artist_N)
        for parts in ((emb_NxD, noise_NxD), (noise_NxD, emb_NxD))
    )
    assert (len(first.mean), len(last.mean)) == (DIMS, 2 * DIMS)
    whole = np.concatenate([emb_NxD, noise_NxD], axis=1)
    names = [f"{artist:02}" for artist in artist_N]
    np.testing.assert_array_equal(
        first.probabilities(whole[:9], collect(whole, names)),
        first.probabilities(emb_NxD[:9], collect(emb_NxD, names)),
    )
