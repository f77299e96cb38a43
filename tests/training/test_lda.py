"""The discriminant analysis: against scikit-learn, and against SciPy's eigenvectors."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from painterjax.training import lda

ARTISTS, FEATURES = 9, 12


@pytest.fixture
def features() -> tuple[np.ndarray, np.ndarray]:
    """Correlated features in several units, of artists with unequally many paintings."""
    rng = np.random.default_rng(0)
    artist_N = np.repeat(np.arange(ARTISTS), rng.integers(12, 30, ARTISTS))
    mean_CxF = rng.normal(size=(ARTISTS, FEATURES))
    noise_NxF = rng.normal(size=(len(artist_N), FEATURES)) @ rng.normal(size=(FEATURES, FEATURES))
    feature_NxF = (mean_CxF[artist_N] + noise_NxF) * rng.uniform(0.1, 10, FEATURES) + 3
    return feature_NxF.astype(np.float32), artist_N


def _up_to_sign(emb_NxD: np.ndarray) -> np.ndarray:
    return emb_NxD * np.sign(emb_NxD[np.argmax(abs(emb_NxD), 0), range(emb_NxD.shape[1])])


def _map(projection: lda.Projection, feature_NxF: np.ndarray) -> np.ndarray:
    return feature_NxF @ projection.kernel_FxD + projection.bias_D


def _between(emb_NxD: np.ndarray, artist_N: np.ndarray) -> np.ndarray:
    """The variance of the artists' means; lambda, as eigenvectors have a variance of 1 within."""
    return np.stack([emb_NxD[artist_N == artist].mean(0) for artist in artist_N]).var(0)


def test_without_shrinkage_it_is_scikit_learn_s(features):
    feature_NxF, artist_N = features
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(feature_NxF.astype(float), artist_N)
    ours_NxD = _map(lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=0.0), feature_NxF)
    expected_NxD = theirs.transform(feature_NxF.astype(float))[:, : ARTISTS - 1]
    expected_NxD -= expected_NxD.mean(0)
    expected_NxD *= _between(expected_NxD, artist_N) ** lda.POWER
    assert ours_NxD.shape == (len(artist_N), ARTISTS - 1)
    # Kernels are rounded to float32, and features up to 30 deviations from 0: 1e-5.
    np.testing.assert_allclose(_up_to_sign(ours_NxD), _up_to_sign(expected_NxD), atol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.3, 0.9])
def test_shrunk_it_has_the_eigenvectors_of_both_covariances(features, shrinkage):
    feature_NxF, artist_N = features
    x_NxF = feature_NxF.astype(float)
    x_NxF = (x_NxF - x_NxF.mean(0)) / x_NxF.std(0)
    mean_NxF = np.stack([x_NxF[artist_N == artist].mean(0) for artist in artist_N])
    within_FxF = np.cov((x_NxF - mean_NxF).T, bias=True)
    within_FxF = (1 - shrinkage) * within_FxF
    within_FxF += shrinkage / (1 - shrinkage) * np.trace(within_FxF) / FEATURES * np.eye(FEATURES)
    _, axis_FxF = scipy.linalg.eigh(np.cov(mean_NxF.T, bias=True), within_FxF)
    expected_NxD = x_NxF @ axis_FxF[:, :-ARTISTS:-1]
    expected_NxD *= _between(expected_NxD, artist_N) ** lda.POWER
    ours_NxD = _map(lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=shrinkage), feature_NxF)
    np.testing.assert_allclose(_up_to_sign(ours_NxD), _up_to_sign(expected_NxD), atol=1e-4)


def test_a_feature_that_changes_by_rounding_alone_does_no_harm(features):
    feature_NxF, artist_N = features
    rounded_N = 7 * (1 + 2.0**-23 * np.random.default_rng(0).integers(-3, 4, len(artist_N)))
    without = lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=0.5)
    for constant_N in (np.full(len(artist_N), 7.0), rounded_N):
        more_NxF = np.column_stack([feature_NxF, constant_N]).astype(np.float32)
        ours = lda.fit(lda.scatter(more_NxF, artist_N), shrinkage=0.5)
        assert np.abs(ours.kernel_FxD).max() < 2 * np.abs(without.kernel_FxD).max()


def test_artists_of_training_that_no_fit_saw_choose(features):
    feature_NxF, artist_N = features
    choice = lda.choose(feature_NxF, artist_N, most=4)
    assert choice.dim <= 4
    reached = {}
    for shrinkage in lda.SHRINKAGES:
        scores = []
        for fold in range(lda.FOLDS):
            held_N = artist_N % lda.FOLDS == fold
            fitted = lda.fit(
                lda.scatter(feature_NxF[~held_N], artist_N[~held_N]), shrinkage=shrinkage
            )
            emb_MxD = fitted.first(choice.dim)(feature_NxF[held_N])
            np.testing.assert_allclose(np.linalg.norm(emb_MxD, axis=1), 1, rtol=1e-6)
            similar_MxM = emb_MxD @ emb_MxD.T - 3 * np.eye(len(emb_MxD))
            nearest_M = artist_N[held_N][similar_MxM.argmax(1)]
            scores.append(np.mean(nearest_M == artist_N[held_N]))
        reached[shrinkage] = np.mean(scores)
    assert reached[choice.shrinkage] == pytest.approx(choice.figures["recall_at_1"])


def test_proxies_start_as_the_directions_of_the_artists_means():
    rng = np.random.default_rng(0)
    artist_N = np.repeat(np.arange(3), [2, 3, 1])
    emb_NxD = rng.normal(size=(6, 4)).astype(np.float32)
    found_AxD = lda.mean_embeddings(emb_NxD, artist_N)
    for artist in range(3):
        mean_D = emb_NxD[artist_N == artist].mean(axis=0)
        np.testing.assert_allclose(found_AxD[artist], mean_D / np.linalg.norm(mean_D), rtol=1e-6)
