"""Who painted this: probabilities of a collection's artists and of someone else."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp  # SciPy comes with scikit-learn and JAX.

from painterjax.common.errors import InputError

SOMEONE_ELSE = 0.5  # the probability beforehand that none of the collection's artists painted it
BLOCK_BYTES = 2**27  # of one array of queries and artists
FITTED_QUERIES = 1024  # of validation
# Numbers of an embedding that may suffice: the analysis puts those first that vary most, and with
# all 928 of them log loss was 0.036 higher (artists never seen, none of them held out).
DIMS = 256
# Of the squared logarithms of what is fitted, which holds them where paintings do not.
REGULARIZATION = 1e-4
LARGEST_LOG = 30.0  # of what is tried on the way, so that nothing overflows


@dataclasses.dataclass(frozen=True)
class Collection:
    """What attribution needs of a collection.

    Attributes:
      artists: its A artists, sorted.
      sum_AxD: the sum of each artist's embeddings, float64.
      count_A: how many paintings each has.
    """

    artists: list[str]
    sum_AxD: np.ndarray
    count_A: np.ndarray


def collect(emb_NxD: np.ndarray, names: Sequence[str]) -> Collection:
    """Returns the collection of N embedded paintings; those of artist "", unknown, are left out."""
    rows = [row for row, name in enumerate(names) if name]
    known = np.array([names[row] for row in rows], np.str_)
    artists, artist_M, count_A = np.unique(known, return_inverse=True, return_counts=True)
    return Collection(artists.tolist(), _sums(emb_NxD[rows], artist_M), count_A)


def merge(parts: Sequence[Collection]) -> Collection:
    """Returns the collection of all paintings of one or more collections."""
    artists, artist_M = np.unique([name for p in parts for name in p.artists], return_inverse=True)
    sum_AxD = _sums(np.concatenate([part.sum_AxD for part in parts]), artist_M)
    count_A = _sums(np.concatenate([part.count_A for part in parts]), artist_M)
    return Collection(artists.tolist(), sum_AxD, count_A.astype(np.int64))


def _sums(value_Mx: np.ndarray, artist_M: np.ndarray) -> np.ndarray:
    """The sum of the rows of each artist, in float64."""
    sum_Ax = np.zeros((artist_M.max(initial=-1) + 1, *value_Mx.shape[1:]))
    np.add.at(sum_Ax, artist_M, value_Mx)
    return sum_Ax


@dataclasses.dataclass(frozen=True)
class Attribution:
    """Probabilistic linear discriminant analysis with the same variance in all directions.

    An artist's style y is drawn from N(mean, between), and each painting from N(y, within). After
    n paintings, whose centered sum is s, the artist's next painting is drawn from

      N(mean + k s, within (1 + k)),  k = between / (within + n between),

    and that of someone of whom nothing is known from the same with n = 0. Log densities are
    multiplied by `temperature`, as neither are all directions of use, nor are they independent. It
    sees the first numbers of an embedding, as many as `mean` has.

    Source: Ioffe 2006, Probabilistic Linear Discriminant Analysis; Guo et al. 2017, On Calibration
    of Modern Neural Networks, https://arxiv.org/abs/1706.04599, for the temperature
    """

    mean: list[float]
    within: float
    between: float
    temperature: float

    def probabilities(
        self,
        query_QxD: np.ndarray,
        of: Collection,
        *,
        own_QxA: np.ndarray | None = None,
        someone_else: float = SOMEONE_ELSE,
    ) -> np.ndarray:
        """Returns the probability of each artist and, last, of someone else: float64 Q x (A + 1).

        Each row adds up to 1. Beforehand the artists of the collection are equally likely.

        Args:
          query_QxD: embeddings of paintings.
          of: the collection.
          own_QxA: how many of each artist's paintings are the query itself. These are no evidence,
            and an artist without another painting has probability 0.
          someone_else: the probability of someone else beforehand.

        Raises:
          InputError: `someone_else` is not between 0 and 1.
        """
        if not 0 < someone_else < 1:
            raise InputError(f"someone else is given {someone_else}: must be above 0 and below 1")
        numbers = _Numbers(self.within, self.between, self.temperature)
        block = max(1, BLOCK_BYTES // (8 * (len(of.artists) + 1)))
        parts = [np.zeros((0, len(of.artists) + 1))]
        for start in range(0, len(query_QxD), block):
            rows = slice(start, start + block)
            own = None if own_QxA is None else own_QxA[rows]
            compared = _compare(np.array(self.mean), query_QxD[rows], of, own)
            parts.append(
                np.exp(_log_probabilities(numbers, compared, len(self.mean), someone_else))
            )
        return np.concatenate(parts)


def fit(emb_NxD: np.ndarray, artist_N: np.ndarray) -> Attribution:
    """Fits an Attribution to paintings that the network was not trained on.

    It sees DIMS numbers of an embedding or all, whichever does better, and minimizes the mean log
    loss of two questions about each painting whose artist has others: who painted it, in view of
    all other paintings; and the same without its artist in the collection, where the answer is
    someone else.

    Args:
      emb_NxD: embeddings of paintings by at least two artists, one of whom has at least two.
      artist_N: the artist of each, by number.
    """
    rows, of, right_Q, own = _questions(emb_NxD, artist_N, most=FITTED_QUERIES)
    fitted = []
    for dims in sorted({min(DIMS, emb_NxD.shape[1]), emb_NxD.shape[1]}):
        mean_D = (of.sum_AxD[:, :dims] / of.count_A[:, None]).mean(0)
        questions = [_compare(mean_D, emb_NxD[rows], of, own_QxA) for own_QxA in own]
        scale = float(((emb_NxD[:, :dims] - mean_D[None]) ** 2).mean()) or 1.0
        loss, numbers = _minimize(questions, right_Q, scale, dims)
        fitted.append((loss, Attribution(mean_D.tolist(), *numbers)))
    return min(fitted, key=lambda pair: pair[0])[1]


def ask(
    model: Attribution, emb_NxD: np.ndarray, artist_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Asks the two questions of `fit` about each of N paintings whose artist has others.

    Returns:
      The probabilities of the A artists and of someone else, float64 2Q x (A + 1), where the second
      half has each artist's paintings without the artist; and the right column of each row.
    """
    rows, of, right_Q, own = _questions(emb_NxD, artist_N, most=len(emb_NxD))
    found = [model.probabilities(emb_NxD[rows], of, own_QxA=own_QxA) for own_QxA in own]
    return np.concatenate(found), np.append(right_Q, np.full_like(right_Q, len(of.artists)))


def _questions(
    emb_NxD: np.ndarray, artist_N: np.ndarray, *, most: int
) -> tuple[np.ndarray, Collection, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Rows of paintings to ask about, their collection and artists, and what is no evidence.

    That is how many paintings of each artist, Q x A: the painting itself, or all by its artist.
    """
    artist_A, artist_N, count_A = np.unique(artist_N, return_inverse=True, return_counts=True)
    of = Collection(list(map(str, artist_A)), _sums(emb_NxD, artist_N), count_A)
    rows = np.flatnonzero(count_A[artist_N] > 1)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
    is_own_QxA = artist_N[rows][:, None] == np.arange(len(artist_A))[None]
    return rows, of, artist_N[rows], (is_own_QxA, is_own_QxA * count_A)


class _Compared(NamedTuple):
    """Queries beside B = A + 1 artists, the last of whom has no painting; all are centered.

    A query's square, its product with an artist's sum, that sum's square, and the count.
    """

    square_Qx1: np.ndarray
    dot_QxB: np.ndarray
    sum_square_QxB: np.ndarray
    count_QxB: np.ndarray


def _compare(
    mean_D: np.ndarray, query_QxD: np.ndarray, of: Collection, own_QxA: np.ndarray | None
) -> _Compared:
    dims = len(mean_D)
    centered_QxD = query_QxD[:, :dims].astype(np.float64) - mean_D[None]
    sum_AxD = of.sum_AxD[:, :dims] - of.count_A[:, None] * mean_D[None]
    square_Qx1 = (centered_QxD**2).sum(1, keepdims=True)
    dot_QxA = centered_QxD @ sum_AxD.T
    own_QxA = np.zeros_like(dot_QxA) if own_QxA is None else own_QxA.astype(np.float64)
    arrays = (
        dot_QxA - own_QxA * square_Qx1,
        (sum_AxD**2).sum(1)[None] + own_QxA * (own_QxA * square_Qx1 - 2 * dot_QxA),
        of.count_A[None] - own_QxA,
    )
    return _Compared(square_Qx1, *(np.pad(array, ((0, 0), (0, 1))) for array in arrays))


class _Numbers(NamedTuple):
    """Those of Attribution."""

    within: float
    between: float
    temperature: float


def _log_probabilities(
    numbers: _Numbers, compared: _Compared, dims: int, someone_else: float
) -> np.ndarray:
    square_Qx1, dot_QxB, sum_square_QxB, count_QxB = compared
    within, between, temperature = numbers
    k_QxB = between / (within + count_QxB * between)
    variance_QxB = within * (1 + k_QxB)
    distance_QxB = square_Qx1 + k_QxB * (k_QxB * sum_square_QxB - 2 * dot_QxB)
    density_QxB = -temperature / 2 * (dims * np.log(variance_QxB) + distance_QxB / variance_QxB)
    is_there_QxA = count_QxB[:, :-1] > 0
    artists_Qx1 = np.maximum(is_there_QxA.sum(1, keepdims=True), 1)
    density_QxB[:, :-1] += np.where(is_there_QxA, np.log((1 - someone_else) / artists_Qx1), -np.inf)
    density_QxB[:, -1] += np.log(someone_else)
    return density_QxB - logsumexp(density_QxB, axis=1, keepdims=True)


def _numbers(log_3: np.ndarray, scale: float) -> _Numbers:
    """Maps temperature, temperature / within and between / within, in which the loss is smooth."""
    temperature, slope, ratio = np.exp(np.clip(log_3, -LARGEST_LOG, LARGEST_LOG))
    within = scale * temperature / slope
    return _Numbers(float(within), float(ratio * within), float(temperature))


def _minimize(
    questions: list[_Compared], artist_Q: np.ndarray, scale: float, dims: int
) -> tuple[float, _Numbers]:
    """The least loss, and the numbers that have it."""
    from scipy.optimize import minimize  # Takes half a second.

    def loss(log_3: np.ndarray) -> float:
        numbers = _numbers(log_3, scale)
        known_QxB, unknown_QxB = (
            _log_probabilities(numbers, compared, dims, SOMEONE_ELSE) for compared in questions
        )
        right_Q = known_QxB[np.arange(len(artist_Q)), artist_Q]
        return REGULARIZATION * (log_3**2).sum() - (right_Q.mean() + unknown_QxB[:, -1].mean()) / 2

    start_3 = np.log([10 / dims, 10 / dims, 1.0])
    found = minimize(loss, start_3)
    return float(found.fun), _numbers(found.x, scale)
