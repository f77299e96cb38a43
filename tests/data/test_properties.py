"""What holds for any input: of the split, samplers, losses and metrics, by hypothesis."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from painterjax.data import catalog, sampling, splits, tables
from painterjax.data.catalog import SPLITS
from painterjax.data.columns import Paintings
from painterjax.losses import batch as batch_losses
from painterjax.losses import tuples as tuple_losses
from painterjax.metrics import retrieval, triplets
from painterjax.metrics.pairs import METRICS, count_pairs, pair_roc_auc

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=30, database=None)
settings.load_profile("fixed")

SEEDS = st.integers(0, 2**31 - 1)
COUNTS = st.lists(st.integers(1, 9), min_size=2, max_size=12).filter(lambda c: max(c) > 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# One shape: JAX compiles for each.
N, D = 10, 3


# The split


@given(st.dictionaries(TEXT, st.integers(1, 30), max_size=12), st.floats(0, 0.99),
       st.floats(0, 0.99), SEEDS)  # fmt: skip
def test_every_painting_is_in_one_place_and_no_test_artist_is_trained_on(counts, test, val, seed):
    listed = [catalog.Painting(f"{i}/{a}", a, title=a) for a, n in counts.items() for i in range(n)]
    works = Paintings.of(listed)
    fractions = {"test_fraction": test, "val_fraction": val, "seed": seed}
    rows, single = splits.by_artist(works, **fractions)
    assert collections.Counter([*Paintings(rows), *single]) == collections.Counter(listed)
    assert {painting.artist for painting in single} == {a for a, n in counts.items() if n == 1}
    by = {name: collections.Counter() for name in catalog.SPLITS}
    for row in rows.to_pylist():
        by[row["split"]][row["artist"]] += 1
    several = sum(n > 1 for n in counts.values())
    assert len(by["test"]) == int(test * several + 0.5)
    assert not by["test"].keys() & (by["train"].keys() | by["val"].keys())
    for artist, count in by["train"].items():
        assert count >= 2
        assert by["val"][artist] == min(int(counts[artist] * val + 1e-9), counts[artist] - 2)
    order = [(SPLITS.index(r["split"]), r["artist"], r["file"]) for r in rows.to_pylist()]
    assert order == sorted(order)
    again, others = splits.by_artist(works[::-1], **fractions)
    assert (again.to_pylist(), others) == (rows.to_pylist(), single)
    assert tables.from_csv(tables.to_csv(rows)).to_pylist() == rows.to_pylist()


# Samplers


@given(COUNTS, SEEDS, st.integers(0, 2**40), st.integers(1, 40))
def test_tuples_are_in_range_and_their_artists_are_right(counts, seed, index, batch_size):
    artist_N = np.repeat(np.arange(len(counts)), counts)
    artists = sampling.artist_rows(artist_N)
    for sample in (sampling.triplets, sampling.pairs):
        row_BxT = sample(artists, batch_size=batch_size, seed=seed, index=index)
        again_BxT = sample(artists, batch_size=batch_size, seed=seed, index=index)
        np.testing.assert_array_equal(row_BxT, again_BxT)
        assert row_BxT.min() >= 0
        assert row_BxT.max() < len(artist_N)
        assert (row_BxT[:, 0] != row_BxT[:, 1]).all()
        artist_BxT = artist_N[row_BxT]
        if sample is sampling.triplets:
            assert (artist_BxT[:, 0] == artist_BxT[:, 1]).all()
            assert (artist_BxT[:, 0] != artist_BxT[:, 2]).all()


@given(COUNTS, SEEDS, st.integers(0, 2**40), st.integers(1, 6), st.data())
def test_groups_hold_different_artists_and_paintings(counts, seed, index, paintings, data):
    artist_N = np.repeat(np.arange(len(counts)), counts)
    artists = sampling.artist_rows(artist_N)
    most = len(artists.several) if paintings > 1 else len(counts)
    asked = {"batch_size": data.draw(st.integers(1, most)), "paintings": paintings, "seed": seed}
    row_PxK = sampling.artists_by_paintings(artists, **asked, index=index)
    np.testing.assert_array_equal(
        row_PxK, sampling.artists_by_paintings(artists, **asked, index=index)
    )
    artist_PxK = artist_N[row_PxK]
    assert len(set(artist_PxK[:, 0])) == len(row_PxK)
    assert (artist_PxK == artist_PxK[:, :1]).all()
    for row_K, artist in zip(row_PxK, artist_PxK[:, 0], strict=True):
        times = collections.Counter(row_K.tolist()).values()
        assert len(times) == min(paintings, counts[artist])
        assert max(times) - min(times) <= 1


# Losses

NUMBERS = st.floats(-100, 100, width=32)
EMBEDDINGS = st.lists(NUMBERS, min_size=N * D, max_size=N * D).map(
    lambda values: np.array(values, np.float32).reshape(N, D)
)
ARTISTS = st.lists(st.integers(0, 3), min_size=N, max_size=N).map(lambda a: np.array(a, np.int32))
ORDERS = st.permutations(range(N)).map(np.array)


@given(EMBEDDINGS, EMBEDDINGS)
def test_distances_are_symmetric_and_their_gradients_finite(x_NxD, y_NxD):
    for distance in tuple_losses.DISTANCES.values():
        np.testing.assert_array_equal(distance(x_NxD, y_NxD), distance(y_NxD, x_NxD))
        assert (np.asarray(distance(x_NxD, x_NxD)) == 0).all()
        grad_NxD = jax.grad(lambda x, d=distance: d(x, y_NxD).sum())(x_NxD)
        assert jnp.isfinite(grad_NxD).all()


def _batch_losses(emb_NxD: jax.Array, artist_N: jax.Array) -> dict[str, jax.Array]:
    distance_NxN = batch_losses.pairwise_euclidean(emb_NxD)
    cosine_NxN = batch_losses.cosines(emb_NxD, emb_NxD)
    related = batch_losses.relations(artist_N, jnp.arange(N))
    by_anchor = {
        "hard": batch_losses.batch_hard(distance_NxN, related, margin=0.3),
        "hard_soft": batch_losses.batch_hard(distance_NxN, related, margin=None),
        "supervised": batch_losses.supervised_contrastive(cosine_NxN, related, scale=8.0),
        "similarity": batch_losses.multi_similarity(cosine_NxN, related),
    }
    values = {name: tuple_losses.masked_mean(*parts) for name, parts in by_anchor.items()}
    sums = batch_losses.batch_all(distance_NxN, related, margin=0.3)
    values["all"] = tuple_losses.ratio(sums.loss_NxN.sum(), sums.active_NxN.sum())
    classified_N = batch_losses.cosine_classifier(
        batch_losses.cosines(emb_NxD, jnp.eye(4, D)), artist_N, scale=8.0, margin=0.2
    )
    return {**values, "classifier": classified_N.mean()}


jitted_losses = jax.jit(_batch_losses)
jitted_gradients = jax.jit(jax.jacrev(_batch_losses))


@given(EMBEDDINGS, ARTISTS, ORDERS)
def test_batch_losses_do_not_depend_on_the_order_of_the_batch(emb_NxD, artist_N, order_N):
    values = jitted_losses(emb_NxD, artist_N)
    permuted = jitted_losses(emb_NxD[order_N], artist_N[order_N])
    renamed = jitted_losses(emb_NxD, (3 - artist_N).astype(np.int32))
    # Squared distances are right to (4 D + 22) R^2 / 2^24, so those near 0 to R / 700; a gap of two
    # distances in each of two orders is off by 4 R / 700. Cosines are right to 12 / 2^24.
    longest = float(np.linalg.norm(emb_NxD - emb_NxD.mean(axis=0, keepdims=True), axis=1).max())
    of_cosines = ("supervised", "similarity", "classifier")
    for name, value in values.items():
        error = 1e-4 if name in of_cosines else 1e-4 + 4 * longest / 700
        assert float(permuted[name]) == pytest.approx(float(value), rel=0, abs=error)
        assert float(value) >= -error
        if name != "classifier":  # Whose proxies are the artists'.
            assert renamed[name] == value


@given(EMBEDDINGS, ARTISTS)
def test_gradients_of_batch_losses_are_finite(emb_NxD, artist_N):
    emb_NxD[N // 2] = emb_NxD[0]  # Distance 0.
    emb_NxD[1] = 0  # Length 0.
    for name, grad_NxD in jitted_gradients(emb_NxD, artist_N).items():
        assert jnp.isfinite(grad_NxD).all(), name


# Metrics

FEW = st.lists(st.integers(0, 6), min_size=1, max_size=20).map(lambda v: np.array(v, float))


@given(FEW, FEW)
def test_roc_auc_is_scikit_learn_s_and_turns_around_with_its_arguments(positive_T, negative_T):
    ours = triplets.roc_auc(positive_T, negative_T)
    label_M = np.repeat([1, 0], [len(positive_T), len(negative_T)])
    theirs = roc_auc_score(label_M, -np.concatenate([positive_T, negative_T]))
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert triplets.roc_auc(negative_T, positive_T) == pytest.approx(1 - ours, abs=1e-12)
    assert triplets.roc_auc(2 * positive_T + 1, 2 * negative_T + 1) == ours


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_triplet_accuracies_are_those_of_loops(distances):
    positive_T, negative_T = np.array(distances, float).T
    assert triplets.triplet_accuracy(positive_T, negative_T) == pytest.approx(
        sum(p < n for p, n in distances) / len(distances)
    )
    batches = [distances[i : i + 2] for i in range(0, len(distances), 2)]
    in_order = [sum(p * p for p, _ in batch) < sum(n * n for _, n in batch) for batch in batches]
    ours = triplets.mean_of_two_accuracy(positive_T, negative_T)
    assert ours == pytest.approx(sum(in_order) / len(batches))


# Whole numbers, so that products are exact: equal distances stay equal wherever they are computed.
POINTS = st.lists(st.integers(-8, 8), min_size=N * D, max_size=N * D, unique=False).map(
    lambda values: np.array(values, np.float32).reshape(N, D)
)


@given(st.lists(st.lists(st.integers(-8, 8), min_size=N, max_size=N), min_size=D, max_size=D),
       ARTISTS.map(np.sort))  # fmt: skip
def test_retrieval_is_that_of_loops_and_does_not_depend_on_place(columns, artist_N):
    emb_NxD = np.array(columns, np.float32).T
    emb_NxD -= emb_NxD.mean(axis=0, keepdims=True).round()
    figures = retrieval.retrieval(emb_NxD, artist_N)
    for query in range(N):
        same_R, gaps = _ranked(emb_NxD, artist_N, query)
        relevant = int(same_R.sum())
        if not relevant:
            assert np.isnan(figures["recall_at_1"][query])
        elif gaps:  # Ties go by the row, where rounding lets them be ties.
            assert figures["recall_at_1"][query] == same_R[0]
            precision_R = np.cumsum(same_R) / np.arange(1, N)
            expected = (precision_R * same_R)[:relevant].sum() / relevant
            # Rounded to float32.
            assert figures["map_at_r"][query] == pytest.approx(expected, rel=1e-6)
            assert figures["r_precision"][query] == pytest.approx(same_R[:relevant].mean())


def _ranked(emb_NxD: np.ndarray, artist_N: np.ndarray, query: int) -> tuple[np.ndarray, bool]:
    """Whether the others, nearest first, are by the query's artist; and that no two are as near."""
    square_N = np.square(emb_NxD - emb_NxD[query]).sum(axis=1)
    order = [i for i in np.argsort(square_N, kind="stable") if i != query]
    return artist_N[order] == artist_N[query], len(set(square_N[order])) == len(order)


@settings(max_examples=10)
@given(POINTS, ARTISTS.map(np.sort).filter(lambda a: len(set(a)) < N), SEEDS)
def test_pairs_are_counted_once_whatever_the_order_of_artists(emb_NxD, artist_N, seed):
    artist_N = np.unique(artist_N, return_inverse=True)[1].astype(np.int32)
    pairs = count_pairs(emb_NxD, artist_N)
    same = (artist_N[:, None] == artist_N[None])[np.triu_indices(N, 1)]
    assert pairs.same_K.sum() == same.sum()
    assert pairs.different_K.sum() == (~same).sum()
    if not same.any() or same.all():
        return
    values = {name: metric(pairs.same_K, pairs.different_K)
              for name, metric in METRICS.items()}  # fmt: skip
    assert all(0 <= value <= 1 for value in values.values())
    turned = artist_N.max() - artist_N[::-1]
    moved = count_pairs(emb_NxD[::-1] + 1, turned.astype(np.int32))
    auc = pair_roc_auc(moved.same_K, moved.different_K)
    # Whole squares below 1,000 are in different bins, and equal ones in one.
    assert auc == pytest.approx(values["pair_roc_auc"], abs=1e-12)
