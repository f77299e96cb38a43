"""Ways to tell who painted a picture, or that it is by someone else, on artists never seen.

    python -m benchmarks.attribution --run RUN --json FILE [--draws 20] [--plot FILE]

Each draw takes paintings of RUN's test for a collection: of two thirds of the artists some, from
one painting to all but one. The others, and all of the remaining third's, are queries. Both kinds
weigh the same in log loss and calibration, as someone else has probability 1/2 beforehand. What a
method has to choose minimizes the log loss on such draws of validation. Choose a method on a store
that `prepare --without-holdout` made, and report on one of `prepare --split-by holdout`.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import roc_auc_score

from painterjax.metrics import attribution, calibration
from painterjax.metrics.attribution import SOMEONE_ELSE
from painterjax.pages import plots
from painterjax.run import folder as run_folder
from painterjax.run.embed import split_embeddings
from painterjax.run.embeddings import Vectors
from painterjax.run.load import load_run

FITTING_DRAWS = 5  # of validation
FALSE_ATTRIBUTIONS = 0.05  # of the queries by someone else
CHOSEN = "plda"
FIGURES = ("top_1", "top_5", "log_loss", "auroc", "accuracy_at_5_percent_false")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--plot", type=Path, help="an .svg of how often the chosen method is right")
    args = parser.parse_args()
    run = load_run(args.run)
    train, val, test = (split_embeddings(run, name) for name in ("train", "val", "test"))
    draws = [draw(test, seed) for seed in range(args.draws)]
    methods = {}
    for name, fitted in fit_all(train, val).items():
        methods[name] = figures([(fitted(each), each) for each in draws])
        shown = {key: round(value, 3) for key, value in methods[name].items() if key != "bins"}
        print(f"{name}: {json.dumps(shown)}", flush=True)
    counts = {"paintings": len(test.paintings), "artists": len({p.artist for p in test.paintings})}
    dataset = run_folder.read_dataset(args.run)
    pixels, split_by = dataset["image_size"], dataset.get("split_by")
    is_choosing = bool(dataset.get("without_holdout"))
    what = {"pixels": pixels, "split_by": split_by, "without_holdout": is_choosing, **counts}
    what["draws"] = args.draws
    result = {"environment": run_folder.environment(), **what, "methods": methods}
    args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.plot:
        args.plot.write_text(plot(methods[CHOSEN]["bins"]))


def plot(bins: list[dict[str, float]]) -> str:
    """Returns a reliability diagram as SVG."""
    columns = (np.array([each[key] for each in bins]) for key in ("stated", "right", "weight"))
    labels = {"stated": "probability of the likeliest answer", "share": "share of right answers"}
    with matplotlib.rc_context(plots.STYLE):
        return plots.svg(plots.reliability(*columns, **labels)) + "\n"


@dataclasses.dataclass(frozen=True)
class Draw:
    """A collection and queries; `right_Q` is the number of the artist, or A for someone else."""

    emb_NxD: np.ndarray
    artist_N: np.ndarray
    query_QxD: np.ndarray
    right_Q: np.ndarray

    @functools.cached_property
    def cosines(self) -> np.ndarray:
        unit_QxD, unit_NxD = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (self.query_QxD, self.emb_NxD)
        )
        return unit_QxD @ unit_NxD.T

    @functools.cached_property
    def collection(self) -> attribution.Collection:
        return attribution.collect(self.emb_NxD, [f"{artist:06}" for artist in self.artist_N])


def draw(vectors: Vectors, seed: int) -> Draw:
    """Draws a collection and queries from all paintings of artists with at least two."""
    rng, emb_NxD = np.random.default_rng(seed), vectors.emb_NxD.astype(np.float64)
    _, artist_N = np.unique([p.artist for p in vectors.paintings], return_inverse=True)
    artists = rng.permutation(np.flatnonzero(np.bincount(artist_N) > 1))
    known = artists[: max(1, len(artists) * 2 // 3)]
    right_N = np.full(len(artist_N), len(known))
    is_query_N = np.isin(artist_N, artists)
    for number, artist in enumerate(known):
        rows = rng.permutation(np.flatnonzero(artist_N == artist))
        right_N[rows] = number
        is_query_N[rows[: rng.integers(1, len(rows))]] = False
    is_kept_N = ~is_query_N & (right_N < len(known))
    return Draw(emb_NxD[is_kept_N], right_N[is_kept_N], emb_NxD[is_query_N], right_N[is_query_N])


Scores = Callable[[np.ndarray, Draw], np.ndarray]  # parameters, draw -> log densities, Q x (A + 1)
Method = Callable[[Draw], np.ndarray]  # draw -> log probabilities


def fit_all(train: Vectors, val: Vectors) -> dict[str, Method]:
    """Fits every method."""
    _, artist_N = np.unique([p.artist for p in val.paintings], return_inverse=True)
    model = attribution.fit(val.emb_NxD, artist_N)
    draws = [draw(val, seed) for seed in range(FITTING_DRAWS)]
    return {
        "plda": lambda of: np.log(model.probabilities(of.query_QxD, of.collection)),
        "plda_full": fit(functools.partial(full_plda, Axes.of(train)), [-1.0, 0.0], draws),
        "prototypes": fit(prototypes, [2.0, 5.0], draws),
        "kernel_density": fit(kernel_density, [2.0, -2.0], draws),
        "k_nearest_10": fit(functools.partial(k_nearest, 10), [2.0, 0.0, -6.0], draws),
        "k_nearest_30": fit(functools.partial(k_nearest, 30), [2.0, 0.0, -6.0], draws),
    }


def fit(scores: Scores, start: list[float], draws: list[Draw]) -> Method:
    """Minimizes the log loss over a method's parameters."""

    def loss(parameter_K: np.ndarray) -> float:
        found = [log_probabilities(scores(parameter_K, each), each) for each in draws]
        return sum(log_loss(log_QxB, each) for log_QxB, each in zip(found, draws, strict=True))

    simplex = np.array(start)[None] + np.eye(len(start) + 1, len(start), -1)
    options = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-3}
    best_K = minimize(loss, start, method="Nelder-Mead", options=options).x
    return lambda of: log_probabilities(scores(best_K, of), of)


def log_probabilities(score_QxB: np.ndarray, of: Draw) -> np.ndarray:
    artists = score_QxB.shape[1] - 1
    prior_B = np.log([(1 - SOMEONE_ELSE) / artists] * artists + [SOMEONE_ELSE])
    return log_softmax(score_QxB + prior_B[None], axis=1)


def prototypes(parameter_2: np.ndarray, of: Draw) -> np.ndarray:
    """The cosine with the artist's mean, times a factor; someone else has a constant."""
    sum_AxD = of.collection.sum_AxD
    mean_AxD = sum_AxD / np.linalg.norm(sum_AxD, axis=1, keepdims=True)
    unit_QxD = of.query_QxD / np.linalg.norm(of.query_QxD, axis=1, keepdims=True)
    return _with_constant(np.exp(parameter_2[0]) * unit_QxD @ mean_AxD.T, parameter_2[1])


def kernel_density(parameter_2: np.ndarray, of: Draw) -> np.ndarray:
    """The mean of von Mises-Fisher kernels on an artist's paintings."""
    log_QxN = np.exp(parameter_2[0]) * (of.cosines - 1)
    columns = [
        np.asarray(logsumexp(log_QxN[:, of.artist_N == a], axis=1))
        for a in range(of.artist_N.max() + 1)
    ]
    log_QxA = np.stack(columns, axis=1) - np.log(of.collection.count_A)[None]
    return _with_constant(log_QxA, parameter_2[1])


def k_nearest(k: int, parameter_3: np.ndarray, of: Draw) -> np.ndarray:
    """The sum of such kernels on the k nearest paintings, and a little of each artist."""
    least_Qx1 = np.sort(of.cosines, axis=1)[:, -min(k, of.cosines.shape[1])][:, None]
    weight_QxN = np.exp(np.exp(parameter_3[0]) * (of.cosines - 1))
    weight_QxN *= of.cosines >= least_Qx1
    is_by_NxA = of.artist_N[:, None] == np.arange(of.artist_N.max() + 1)[None]
    return _with_constant(np.log(weight_QxN @ is_by_NxA + np.exp(parameter_3[2])), parameter_3[1])


@dataclasses.dataclass(frozen=True)
class Axes:
    """Axes along which paintings of an artist vary by 1 and artists by `ratio_D`, independently."""

    mean_D: np.ndarray
    axis_DxD: np.ndarray
    ratio_D: np.ndarray

    @classmethod
    def of(cls, vectors: Vectors) -> "Axes":
        """Estimates both covariances by moments, the one within artists shrunk by a tenth."""
        emb_NxD = vectors.emb_NxD.astype(np.float64)
        _, artist_N = np.unique([p.artist for p in vectors.paintings], return_inverse=True)
        count_A = np.bincount(artist_N)
        mean_AxD = np.stack([emb_NxD[artist_N == a].mean(0) for a in range(len(count_A))])
        rest_NxD = emb_NxD - mean_AxD[artist_N]
        within_DxD = rest_NxD.T @ rest_NxD / (len(emb_NxD) - len(count_A))
        shrunk = 0.1 * np.trace(within_DxD) / len(within_DxD) * np.eye(len(within_DxD))
        within_DxD = 0.9 * within_DxD + shrunk
        between_DxD = np.cov(mean_AxD.T) - within_DxD * (1 / count_A).mean()
        ratio_D, axis_DxD = eigh(between_DxD, within_DxD)
        return cls(mean_AxD.mean(0), axis_DxD, np.maximum(ratio_D, 0))


def full_plda(axes: Axes, parameter_2: np.ndarray, of: Draw) -> np.ndarray:
    """PLDA with covariances; temperature, and a factor of the variances between artists."""
    temperature, factor = np.exp(parameter_2)
    query_QxD = (of.query_QxD - axes.mean_D[None]) @ axes.axis_DxD
    columns, ratio_D = [], factor * axes.ratio_D
    for artist in range(of.artist_N.max() + 2):
        emb_MxD = (of.emb_NxD[of.artist_N == artist] - axes.mean_D[None]) @ axes.axis_DxD
        k_D = ratio_D / (1 + len(emb_MxD) * ratio_D)
        square_QxD = (query_QxD - (k_D * emb_MxD.sum(0))[None]) ** 2 / (1 + k_D)[None]
        columns.append(-temperature / 2 * (square_QxD + np.log(1 + k_D)[None]).sum(1))
    return np.stack(columns, axis=1)


def _with_constant(score_QxA: np.ndarray, constant: float) -> np.ndarray:
    return np.pad(score_QxA, ((0, 0), (0, 1)), constant_values=constant)


def weights(of: Draw) -> np.ndarray:
    """Weights of queries, with which those by known artists and the others have one half each."""
    is_known_Q = of.right_Q <= of.artist_N.max()
    return np.where(is_known_Q, 1 / is_known_Q.sum(), 1 / (~is_known_Q).sum()) / 2


def log_loss(log_QxB: np.ndarray, of: Draw) -> float:
    return -float(weights(of) @ log_QxB[np.arange(len(log_QxB)), of.right_Q])


def figures(answers: list[tuple[np.ndarray, Draw]]) -> dict[str, Any]:
    """Returns the means over draws; calibration error and its bins are of all draws together."""
    means = np.mean([_of_draw(log_QxB, each) for log_QxB, each in answers], axis=0).tolist()
    stated_M, is_right_M, weight_M = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (np.exp(log.max(1)), log.argmax(1) == of.right_Q, weights(of))
                for log, of in answers
            ),
            strict=True,
        )
    )
    diagram = calibration.reliability(stated_M, weight_M * is_right_M, weight_M)
    names = ("stated", "right", "weight")
    bins = [dict(zip(names, map(float, each), strict=True)) for each in zip(*diagram, strict=True)]
    error = calibration.calibration_error(*diagram)
    return {**dict(zip(FIGURES, means, strict=True)), "calibration_error": error, "bins": bins}


def _of_draw(log_QxB: np.ndarray, of: Draw) -> tuple[float, ...]:
    """FIGURES of a draw."""
    someone_else = log_QxB.shape[1] - 1
    is_known_Q = of.right_Q < someone_else
    ranked_QxA = np.argsort(-log_QxB[:, :-1], axis=1)
    is_right_QxA = ranked_QxA == of.right_Q[:, None]
    best_Q = log_QxB[:, :-1].max(1)
    threshold = np.quantile(best_Q[~is_known_Q], 1 - FALSE_ATTRIBUTIONS)
    return (
        is_right_QxA[is_known_Q, 0].mean(),
        is_right_QxA[is_known_Q, :5].any(1).mean(),
        log_loss(log_QxB, of),
        roc_auc_score(~is_known_Q, log_QxB[:, -1]),
        (is_right_QxA[:, 0] & (best_Q > threshold))[is_known_Q].mean(),
    )


if __name__ == "__main__":
    main()
