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


def _map(projection: lda.Projection, feature_NxF: np.ndarray) -> np.ndarray:
    return feature_NxF @ projection.kernel_FxD + projection.bias_D


def _between(emb_NxD: np.ndarray, artist_N: np.ndarray) -> np.ndarray:
    """The variance of the artists' means; lambda, as eigenvectors have a variance of 1 within."""
    return np.stack([emb_NxD[artist_N == artist].mean(0) for artist in artist_N]).var(0)


def _assert_same_up_to_rotation(ours_NxD: np.ndarray, axes_NxD: np.ndarray, artist_N) -> None:
    """Whether `ours` has the products of the axes, each scaled by its lambda."""
    scaled_NxD = axes_NxD - axes_NxD.mean(0)
    scaled_NxD *= (_between(scaled_NxD, artist_N) + lda.FLOOR) ** lda.POWER
    assert ours_NxD.shape == scaled_NxD.shape
    # Kernels are rounded to float32, and features up to 30 deviations from 0: 1e-5 of numbers up to
    # 5, of which products have 12.
    np.testing.assert_allclose(ours_NxD @ ours_NxD.T, scaled_NxD @ scaled_NxD.T, atol=1e-3)


def test_without_shrinkage_it_is_scikit_learn_s(features):
    feature_NxF, artist_N = features
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(feature_NxF.astype(float), artist_N)
    ours_NxD = _map(lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=0.0), feature_NxF)
    # All axes, also those that `transform` leaves out, along which artists do not differ.
    axes_NxD = feature_NxF.astype(float) @ theirs.scalings_
    _assert_same_up_to_rotation(ours_NxD, axes_NxD, artist_N)


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
    ours_NxD = _map(lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=shrinkage), feature_NxF)
    _assert_same_up_to_rotation(ours_NxD, x_NxF @ axis_FxF, artist_N)


def test_the_first_directions_are_those_of_most_variance(features):
    feature_NxF, artist_N = features
    emb_NxD = _map(lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=0.5), feature_NxF)
    covariance_DxD = np.cov(emb_NxD.T, bias=True)
    variance_D = np.diag(covariance_DxD)
    assert (np.diff(variance_D) < 0).all()
    np.testing.assert_allclose(covariance_DxD, np.diag(variance_D), atol=1e-4 * variance_D[0])


def test_a_feature_that_changes_by_rounding_alone_does_no_harm(features):
    feature_NxF, artist_N = features
    rounded_N = 7 * (1 + 2.0**-23 * np.random.default_rng(0).integers(-3, 4, len(artist_N)))
    for constant_N in (np.full(len(artist_N), 7.0), np.full(len(artist_N), 0.1), rounded_N):
        more_NxF = np.column_stack([feature_NxF, constant_N]).astype(np.float32)
        ours = lda.fit(lda.scatter(more_NxF, artist_N), shrinkage=0.5)
        moved_D = np.ptp(more_NxF[:, -1]) * ours.kernel_FxD[-1]
        assert np.abs(moved_D).max() < 1e-4  # Embeddings have variances of about 1.


def test_a_constant_of_many_paintings_is_constant():
    """A mean that adds up float32 numbers row by row would differ from each of them."""
    rng, artist_N = np.random.default_rng(0), np.repeat(np.arange(20), 500)
    feature_NxF = np.column_stack([rng.normal(size=10_000), np.full(10_000, 10**-2.5)])
    scatter = lda.scatter(feature_NxF.astype(np.float32), artist_N)
    assert scatter.scale_F[1] == 1
    assert abs(scatter.between_FxC[1]).max() < 1e-9


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


def test_few_artists_are_fitted_without_a_choice(features):
    feature_NxF, artist_N = features
    few_N = artist_N < 5
    choice = lda.choose(feature_NxF[few_N], artist_N[few_N], most=64)
    assert choice == lda.Choice(lda.UNCHOSEN, FEATURES, {})
    assert "a choice needs 6 artists" in lda.summary({"shrinkage": 0.5, "dim": FEATURES})


def test_proxies_start_as_the_directions_of_the_artists_means():
    rng = np.random.default_rng(0)
    artist_N = np.repeat(np.arange(3), [2, 3, 1])
    emb_NxD = rng.normal(size=(6, 4)).astype(np.float32)
    found_AxD = lda.mean_embeddings(emb_NxD, artist_N)
    for artist in range(3):
        mean_D = emb_NxD[artist_N == artist].mean(axis=0)
        np.testing.assert_allclose(found_AxD[artist], mean_D / np.linalg.norm(mean_D), rtol=1e-6)
