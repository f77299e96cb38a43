"""Linear discriminant analysis: a linear head in closed form, from the features of a backbone.

Directions along which artists differ most, measured by how much the paintings of one artist differ
(Fisher 1936): between v = lambda within v, where `within` is shrunk towards a multiple of the
identity. All directions stay, also those along which the training artists do not differ: others
may. Each is scaled by (lambda + FLOOR)^POWER. The scatter is computed once for all shrinkages;
scikit-learn computes it for each.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from painterjax.data import sampling
from painterjax.data.store import Split
from painterjax.metrics import evaluator
from painterjax.training.trainer import Training, on_all_devices

FOLDS = 3  # of artists, each of which is held out once
SHRINKAGES = (0.3, 0.5, 0.7)
UNCHOSEN = 0.5  # where there are too few artists
DIMENSIONS = (96, 256, 1024)
# By artists of training, held out: without a floor recall@1 is lower, as directions of lambda 0 are
# lost, and without a power ROC AUC is (docs/results.md).
FLOOR, POWER = 0.3, 0.25
# A float32 feature that deviates by no more than this share of its mean is constant: it is a mean
# over up to 2^14 pixels, whose sum errs by 14 roundings of 2^-24 if added by halves.
ROUNDING = 14 * 2.0**-24
TRIPLETS = 10_000


@dataclasses.dataclass(frozen=True)
class Projection:
    """A linear map of features.

    Attributes:
      kernel_FxD: float32.
      bias_D: float32; the mean of the features it was fitted on maps to 0.
    """

    kernel_FxD: np.ndarray
    bias_D: np.ndarray

    def __call__(self, feature_NxF: np.ndarray) -> np.ndarray:
        """Maps features to embeddings of length 1."""
        emb_NxD = feature_NxF @ self.kernel_FxD + self.bias_D
        return emb_NxD / np.linalg.norm(emb_NxD, axis=1, keepdims=True)

    def first(self, dim: int) -> "Projection":
        """Returns the `dim` directions in which embeddings vary most."""
        return Projection(self.kernel_FxD[:, :dim], self.bias_D[:dim])


@dataclasses.dataclass(frozen=True)
class Scatter:
    """How features scatter, each divided by its deviation.

    Attributes:
      mean_F, scale_F: of the features; the scale is 1 over the deviation.
      within_FxF: the mean covariance of an artist's paintings, weighted by their number.
      between_FxC: its product with its transpose is the covariance of the artists' means, weighted
        likewise; C is the number of artists.
    """

    mean_F: np.ndarray
    scale_F: np.ndarray
    within_FxF: np.ndarray
    between_FxC: np.ndarray


def scatter(feature_NxF: np.ndarray, artist_N: np.ndarray) -> Scatter:
    """Returns the scatter of N x F features of paintings, whose artists may have any numbers."""
    mean_F: np.ndarray = feature_NxF.mean(axis=0, dtype=np.float64)
    deviation_F = feature_NxF.std(axis=0, dtype=np.float64)
    scale_F = 1 / np.where(deviation_F > ROUNDING * np.abs(mean_F), deviation_F, 1)
    x_NxF = (feature_NxF - mean_F) * scale_F
    _, number_N, count_C = np.unique(artist_N, return_inverse=True, return_counts=True)
    center_CxF = np.zeros((len(count_C), len(mean_F)))
    np.add.at(center_CxF, number_N, x_NxF)
    center_CxF /= count_C[:, None]
    rest_NxF = (x_NxF - center_CxF[number_N]).astype(np.float64)
    between_FxC = (center_CxF * np.sqrt(count_C / len(x_NxF))[:, None]).T
    return Scatter(mean_F, scale_F, rest_NxF.T @ rest_NxF / len(x_NxF), between_FxC)


def fit(of: Scatter, *, shrinkage: float) -> Projection:
    """Fits all directions, as many as features, that of the largest variance first.

    Args:
      of: the scatter of the features.
      shrinkage: from 0, none, to 1, where the paintings of an artist differ equally everywhere.
    """
    features = len(of.mean_F)
    within_FxF = (1 - shrinkage) * of.within_FxF
    within_FxF += shrinkage * np.trace(of.within_FxF) / features * np.eye(features)
    lower_FxF = np.linalg.cholesky(within_FxF)
    whitened_FxC = np.linalg.solve(lower_FxF, of.between_FxC)
    axis_FxF, ratio_C, _ = np.linalg.svd(whitened_FxC)
    lambda_F = np.pad(ratio_C, (0, features - len(ratio_C))) ** 2
    axis_FxF = np.linalg.solve(lower_FxF.T, axis_FxF * (lambda_F + FLOOR) ** POWER)
    total_FxF = of.within_FxF + of.between_FxC @ of.between_FxC.T
    _, turn_FxF = np.linalg.eigh(axis_FxF.T @ total_FxF @ axis_FxF)
    kernel_FxD = of.scale_F[:, None] * (axis_FxF @ turn_FxF[:, ::-1])
    return Projection(kernel_FxD.astype(np.float32), (-of.mean_F @ kernel_FxD).astype(np.float32))


@dataclasses.dataclass(frozen=True)
class Choice:
    """What held-out artists of training liked best.

    Attributes:
      shrinkage, dim: of the projection.
      figures: the means over FOLDS of what it reached on them; {} of fewer artists than two a fold.
    """

    shrinkage: float
    dim: int
    figures: dict[str, float]


def choose(feature_NxF: np.ndarray, artist_N: np.ndarray, *, most: int) -> Choice:
    """Chooses shrinkage and dimension by artists of training that the fit does not see, if any.

    The sum of ROC AUC and recall@1 decides, as the best shrinkage for one is not the best for the
    other.

    Args:
      feature_NxF: features of training.
      artist_N: the artist of each, ascending.
      most: of the dimension.

    Raises:
      InputError: a fold of artists gives no triplets.
    """
    dims = sorted({min(dim, most, feature_NxF.shape[1]) for dim in DIMENSIONS})
    if artist_N[-1] + 1 < 2 * FOLDS:  # Each needs two artists.
        return Choice(UNCHOSEN, dims[-1], {})
    found: dict[tuple[float, int], list[dict[str, float]]] = {}
    for fold in range(FOLDS):
        held_N = artist_N % FOLDS == fold
        row_Tx3 = sampling.triplets(
            sampling.artist_rows(artist_N[held_N]), batch_size=TRIPLETS, seed=0, index=0
        )
        seen = scatter(feature_NxF[~held_N], artist_N[~held_N])
        for shrinkage in SHRINKAGES:
            projection = fit(seen, shrinkage=shrinkage)
            for dim in dims:
                emb_MxD = projection.first(dim)(feature_NxF[held_N])
                figures = evaluator.evaluate_quickly(emb_MxD, artist_N[held_N], row_Tx3)
                found.setdefault((shrinkage, dim), []).append(figures)
    means = {
        key: {name: float(np.mean([each[name] for each in folds])) for name in folds[0]}
        for key, folds in found.items()
    }
    best = max(means, key=lambda key: means[key]["roc_auc"] + means[key]["recall_at_1"])
    return Choice(*best, means[best])


def start(training: Training, split: Split, *, dim: int) -> Training:
    """Returns a training that starts from a fitted linear head; `fitted` says what was chosen.

    Proxies, where the loss has them, start as the directions of their artists' mean embeddings.

    Args:
      training: its network has a linear head.
      split: the training paintings, with features.
      dim: of the embedding; directions that were not chosen are 0, and stay so, as no gradient
        reaches them.
    """
    assert split.feature_NxF is not None, "features are read before"
    feature_NxF, artist_N = np.asarray(split.feature_NxF), split.artist_N
    choice = choose(feature_NxF, artist_N, most=dim)
    fitted = fit(scatter(feature_NxF, artist_N), shrinkage=choice.shrinkage).first(choice.dim)
    missing = dim - fitted.kernel_FxD.shape[1]
    kernel_FxD = np.pad(fitted.kernel_FxD, ((0, 0), (0, missing)))
    linear = {"kernel": kernel_FxD, "bias": np.pad(fitted.bias_D, (0, missing))}
    head = on_all_devices(training.mesh, {"linear": linear})
    state = training.state.starting_from({**training.state.params, "head": head})
    if state.proxies:
        mean_AxD = np.pad(mean_embeddings(fitted(feature_NxF), artist_N), ((0, 0), (0, missing)))
        proxies = on_all_devices(training.mesh, {"artist": mean_AxD})
        state = dataclasses.replace(state, proxies=proxies)
    figures = {"shrinkage": choice.shrinkage, "dim": choice.dim, **choice.figures}
    return dataclasses.replace(training, state=state, fitted=figures)


def mean_embeddings(emb_NxD: np.ndarray, artist_N: np.ndarray) -> np.ndarray:
    """Returns the direction of each artist's mean embedding: float32 A x D, each of length 1."""
    sum_AxD = np.zeros((artist_N[-1] + 1, emb_NxD.shape[1]), np.float32)
    np.add.at(sum_AxD, artist_N, emb_NxD)
    return sum_AxD / np.linalg.norm(sum_AxD, axis=1, keepdims=True)


def summary(fitted: Mapping[str, float]) -> str:
    """Returns a line about Training.fitted."""
    if "roc_auc" not in fitted:
        return (
            f"head.fit took shrinkage {fitted['shrinkage']} and {fitted['dim']} dimensions: a"
            f" choice needs {2 * FOLDS} artists in train"
        )
    return (
        f"head.fit chose shrinkage {fitted['shrinkage']} and {fitted['dim']} dimensions; on artists"
        f" of training that it did not see: ROC AUC {fitted['roc_auc']:.3f}, recall@1"
        f" {fitted['recall_at_1']:.3f}"
    )
