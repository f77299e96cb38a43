"""In-batch losses against loops and pytorch-metric-learning; bounds on rounding errors."""

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.losses import batch as batch_losses
from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses

SEEDS = range(4)
IN_BATCH = [name for name, loss in objectives.LOSSES.items() if loss.in_batch]
MARGIN, SCALE = 0.3, 8.0
# Of a loss of `_batch`. Squared distances are right to 42 R^2 / 2^24 = 3.4e-5, so distances, all
# above 0.8, to 2e-5, and differences of two to 4e-5. Cosines of 5 numbers are right to 16 / 2^24,
# and to 8e-6 when scaled by 8.
ATOL = 1e-4


def _batch(seed: int, *, count: int = 12, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Random embeddings by artists of different sizes; one artist may have a single painting."""
    rng = np.random.default_rng(seed)
    emb_NxD = rng.normal(size=(count, dim)).astype(np.float32)
    return emb_NxD, rng.integers(0, 4, count).astype(np.int32)


def _loss(name: str, *, scale: float = SCALE) -> Callable[..., objectives.Scalars]:
    """The loss `name` as training calls it, of paintings that are all different by default."""
    goal = objectives.build(
        name=name, margin=MARGIN, distance="euclidean", scale=scale, paintings_per_artist=1
    )

    def scalars(
        emb_NxD: Any, artist_N: Any, proxy_AxD: Any = None, row_N: Any = None
    ) -> objectives.Scalars:
        row_N = np.arange(len(artist_N)) if row_N is None else row_N
        emb_BxTxD, artist_BxT, row_BxT = (
            jnp.asarray(array)[None] for array in (emb_NxD, artist_N, row_N)
        )
        proxies = {} if proxy_AxD is None else {"artist": proxy_AxD}
        return goal.scalars(emb_BxTxD, artist_BxT, row_BxT, proxies)

    return scalars


GOAL = objectives.build(
    name="batch_all", margin=MARGIN, distance="euclidean", scale=1.0, paintings_per_artist=1
)


def _distance(emb_NxD: np.ndarray, i: int, j: int) -> float:
    return float(np.linalg.norm(emb_NxD[i].astype(float) - emb_NxD[j]))


def _cosine_table(emb_NxD: np.ndarray) -> np.ndarray:
    unit_NxD = emb_NxD.astype(float) / np.linalg.norm(emb_NxD.astype(float), axis=1)[:, None]
    return unit_NxD @ unit_NxD.T


def _triplets(artist_N: np.ndarray) -> list[tuple[int, int, int]]:
    return [
        (a, p, n)
        for a, p, n in itertools.product(range(len(artist_N)), repeat=3)
        if a != p and artist_N[a] == artist_N[p] and artist_N[a] != artist_N[n]
    ]


def _loop_batch_all(emb_NxD, artist_N, *, semi_hard: bool = False) -> float:
    values = []
    for a, p, n in _triplets(artist_N):
        positive, negative = _distance(emb_NxD, a, p), _distance(emb_NxD, a, n)
        if positive - negative + MARGIN > 0 and (negative > positive or not semi_hard):
            values.append(positive - negative + MARGIN)
    return float(np.mean(values))


def _loop_batch_hard(emb_NxD, artist_N, *, soft: bool = False) -> float:
    values = []
    for anchor in sorted({a for a, _, _ in _triplets(artist_N)}):
        mine = [(p, n) for a, p, n in _triplets(artist_N) if a == anchor]
        gap = max(_distance(emb_NxD, anchor, p) for p, _ in mine)
        gap -= min(_distance(emb_NxD, anchor, n) for _, n in mine)
        values.append(np.log1p(np.exp(gap)) if soft else max(0.0, gap + MARGIN))
    return float(np.mean(values))


def _loop_supervised_contrastive(emb_NxD, artist_N) -> float:
    cosine, rows, values = _cosine_table(emb_NxD), range(len(artist_N)), []
    for a in rows:
        positives = [p for p in rows if p != a and artist_N[p] == artist_N[a]]
        others = sum(np.exp(SCALE * cosine[a, j]) for j in rows if j != a)
        if positives:
            terms = [-np.log(np.exp(SCALE * cosine[a, p]) / others) for p in positives]
            values.append(np.mean(terms))
    return float(np.mean(values))


def _loop_multi_similarity(emb_NxD, artist_N) -> float:
    cosine, rows, values = _cosine_table(emb_NxD), range(len(artist_N)), []
    for a in rows:
        positives = [cosine[a, p] for p in rows if p != a and artist_N[p] == artist_N[a]]
        negatives = [cosine[a, n] for n in rows if artist_N[n] != artist_N[a]]
        if not positives or not negatives:
            continue
        pulled = [s for s in positives if s < max(negatives) + 0.1]
        pushed = [s for s in negatives if s > min(positives) - 0.1]
        pull = np.log1p(sum(np.exp(-2 * (s - 0.5)) for s in pulled)) / 2
        values.append(pull + np.log1p(sum(np.exp(50 * (s - 0.5)) for s in pushed)) / 50)
    return float(np.mean(values))


LOOPS = {
    "batch_all": _loop_batch_all,
    "semi_hard": functools.partial(_loop_batch_all, semi_hard=True),
    "batch_hard": _loop_batch_hard,
    "batch_hard_soft": functools.partial(_loop_batch_hard, soft=True),
    "supervised_contrastive": _loop_supervised_contrastive,
    "multi_similarity": _loop_multi_similarity,
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", LOOPS)
def test_losses_match_loops(name, seed):
    emb_NxD, artist_N = _batch(seed)
    expected = LOOPS[name](emb_NxD, artist_N)
    assert expected > 0
    assert abs(expected - MARGIN) > 10 * ATOL
    assert _loss(name)(emb_NxD, artist_N)["loss"] == pytest.approx(expected, abs=ATOL)


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_and_active_fraction_count_triplets(seed):
    emb_NxD, artist_N = _batch(seed)
    gaps = [_distance(emb_NxD, a, n) - _distance(emb_NxD, a, p) for a, p, n in _triplets(artist_N)]
    scalars = _loss("batch_all")(emb_NxD, artist_N)
    assert scalars["accuracy"] == pytest.approx(np.mean([gap > 0 for gap in gaps]))
    assert scalars["active_fraction"] == pytest.approx(np.mean([gap < MARGIN for gap in gaps]))


@pytest.mark.parametrize("name", ["batch_all", "semi_hard"])
def test_more_triplets_than_an_int32_counts(name):
    """One third of 3.1 billion triplets is active: those of the two artists that are 0.1 apart.

    Adding 1,600 again and again to a float32 loses 4 %: beyond 2^31 it is rounded to 6 x 256.
    """
    emb_NxD = np.array([[0], [0.1], [1]], np.float32).repeat(800, axis=0)
    artist_N = np.arange(3).repeat(800)
    goal = objectives.build(
        name=name, margin=MARGIN, distance="euclidean", scale=SCALE, paintings_per_artist=800
    )
    artist_BxT, row_BxT = artist_N.reshape(3, 800), np.arange(2400).reshape(3, 800)
    scalars = jax.jit(goal.scalars)(emb_NxD.reshape(3, 800, 1), artist_BxT, row_BxT, {})
    assert scalars["loss"] == pytest.approx(MARGIN - 0.1, rel=0.05)
    assert scalars["active_fraction"] == pytest.approx(1 / 3, rel=0.05)
    assert scalars["accuracy"] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("name", [name for name in IN_BATCH if name != "cosine_classifier"])
def test_a_painting_that_is_drawn_twice_is_no_positive_of_itself(name):
    """So that its artist has no anchor, as if each view were by an artist of its own."""
    emb_NxD, _ = _batch(0, count=5)
    twice = _loss(name)(emb_NxD, [0, 0, 1, 1, 1], row_N=[0, 0, 1, 2, 3])
    apart = _loss(name)(emb_NxD, [0, 2, 1, 1, 1])
    assert twice["loss"] == pytest.approx(float(apart["loss"]), rel=1e-6)
    assert twice["accuracy"] == pytest.approx(float(apart["accuracy"]))


def test_single_paintings_by_each_artist_log_no_accuracy():
    goal = objectives.build(
        name="cosine_classifier", margin=0.0, distance="euclidean", scale=16.0,
        paintings_per_artist=1,
    )  # fmt: skip
    emb_NxD, artist_N = _batch(0)
    proxies = {"artist": jnp.asarray(np.eye(4, 5, dtype=np.float32))}
    arrays = emb_NxD, artist_N, np.arange(12)
    emb_BxTxD, artist_BxT, row_BxT = (jnp.asarray(array)[:, None] for array in arrays)
    scalars = goal.scalars(emb_BxTxD, artist_BxT, row_BxT, proxies)
    assert scalars.keys() == {"loss", "artist_accuracy", "negative_distance"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cosine_classifier_matches_loops(seed):
    emb_NxD, artist_N = _batch(seed)
    proxy_AxD = np.random.default_rng(seed).normal(size=(4, 5)).astype(np.float32)
    cosine = _cosine_table(np.concatenate([emb_NxD, proxy_AxD]))[:12, 12:]
    values = []
    for a, artist in enumerate(artist_N):
        logits = [SCALE * (cosine[a, i] - MARGIN * (i == artist)) for i in range(4)]
        values.append(np.log(np.exp(logits).sum()) - logits[artist])
    ours = _loss("cosine_classifier")(emb_NxD, artist_N, jnp.asarray(proxy_AxD))
    assert ours["loss"] == pytest.approx(np.mean(values), abs=ATOL)
    assert ours["artist_accuracy"] == pytest.approx((cosine.argmax(axis=1) == artist_N).mean())


def test_a_painting_that_is_drawn_twice_is_classified_once():
    """By its first view: the others change neither the mean nor its gradient."""
    emb_NxD, artist_N = _batch(0, count=7)
    proxy_AxD = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32))
    artist_N[[2, 3, 6]] = artist_N[[0, 0, 5]]
    places, row_N = np.array([0, 1, 4, 5]), np.array([8, 3, 8, 8, 1, 2, 2])
    classify = _loss("cosine_classifier")
    found = classify(emb_NxD, artist_N, proxy_AxD, row_N)
    expected = classify(emb_NxD[places], artist_N[places], proxy_AxD)
    counted = classify(emb_NxD, artist_N, proxy_AxD)
    for name in ("loss", "artist_accuracy"):
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-6)
        assert abs(float(found[name]) - float(counted[name])) > 0.01
    gradient_NxD = jax.grad(lambda x: classify(x, artist_N, proxy_AxD, row_N)["loss"])(emb_NxD)
    assert np.flatnonzero(np.abs(gradient_NxD).max(axis=1)).tolist() == places.tolist()


def _theirs(name: str, proxy_AxD: np.ndarray) -> Callable[..., Any]:
    """pytorch-metric-learning's loss of the same name, on embeddings and labels."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It imports with deprecated names.
        distances = pytest.importorskip("pytorch_metric_learning.distances")
        from pytorch_metric_learning import losses, miners, reducers
    euclidean = distances.LpDistance(normalize_embeddings=False)
    triplet = losses.TripletMarginLoss(
        margin=MARGIN, distance=euclidean, reducer=reducers.AvgNonZeroReducer()
    )
    if name == "batch_all":
        return triplet
    if name == "semi_hard":
        miner = miners.TripletMarginMiner(
            margin=MARGIN, type_of_triplets="semihard", distance=euclidean
        )
        return lambda emb, artist: triplet(emb, artist, miner(emb, artist))
    if name.startswith("batch_hard"):
        miner = miners.BatchHardMiner(distance=euclidean)
        smooth = name.endswith("soft")
        hard = losses.TripletMarginLoss(
            margin=0 if smooth else MARGIN,
            distance=euclidean,
            smooth_loss=smooth,
            reducer=reducers.MeanReducer(),
        )
        return lambda emb, artist: hard(emb, artist, miner(emb, artist))
    if name == "supervised_contrastive":
        return losses.SupConLoss(temperature=1 / SCALE)
    if name == "multi_similarity":
        miner = miners.MultiSimilarityMiner(epsilon=0.1)
        multi = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
        return lambda emb, artist: multi(emb, artist, miner(emb, artist))
    their_classifier: Any = losses.CosFaceLoss  # Its scale is annotated as a whole number.
    classifier = their_classifier(*proxy_AxD.shape, margin=MARGIN, scale=SCALE)
    classifier.W.data = torch.from_numpy(proxy_AxD.T.copy())
    return classifier


@pytest.mark.parametrize("name", IN_BATCH)
def test_losses_and_gradients_match_pytorch_metric_learning(name, torch):
    emb_NxD, _ = _batch(0)
    artist_N = np.repeat(np.arange(4, dtype=np.int32), 3)  # They count lone paintings differently.
    proxy_AxD = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    emb = torch.from_numpy(emb_NxD).requires_grad_()
    theirs = _theirs(name, proxy_AxD)(emb, torch.from_numpy(artist_N).long())
    theirs.backward()
    theirs = theirs.detach()

    def ours(emb_NxD: jax.Array) -> jax.Array:
        return _loss(name)(emb_NxD, artist_N, jnp.asarray(proxy_AxD))["loss"]

    value, grad_NxD = jax.value_and_grad(ours)(jnp.asarray(emb_NxD))
    assert float(theirs) > 0
    assert value == pytest.approx(float(theirs), abs=2 * ATOL)  # Both are float32.
    # A gradient is divided by distances above 0.8 that are right to 2e-5.
    np.testing.assert_allclose(grad_NxD, emb.grad.numpy(), rtol=1e-3, atol=ATOL)


@pytest.mark.parametrize("name", IN_BATCH)
@pytest.mark.parametrize(
    "artists", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]], ids=["usual", "one", "all different"]
)
@pytest.mark.parametrize("equal", ["all", "zero", "two"])
def test_gradients_are_finite(name, artists, equal):
    """For equal and zero embeddings, and without positives or negatives."""
    emb_NxD = jnp.asarray(_batch(0, count=4)[0])
    emb_NxD = {
        "all": jnp.broadcast_to(emb_NxD[:1], emb_NxD.shape),
        "zero": jnp.zeros_like(emb_NxD),
        "two": emb_NxD.at[1].set(emb_NxD[0]),
    }[equal]
    proxy_AxD = jnp.ones((4, 5))

    def loss(emb_NxD: jax.Array) -> jax.Array:
        return _loss(name)(emb_NxD, np.array(artists), proxy_AxD)["loss"]

    value, grad_NxD = jax.jit(jax.value_and_grad(loss))(emb_NxD)
    assert jnp.isfinite(value)
    assert jnp.isfinite(grad_NxD).all()
    nothing = len(set(artists)) != 2 and name not in ("cosine_classifier", "supervised_contrastive")
    if nothing:  # Neither a positive nor a negative: there is nothing to learn.
        assert value == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_two_views_match_a_loop(seed):
    """Also where a painting is in the batch twice: its other copy is not told from it."""
    (first_NxD, _), (second_NxD, _) = _batch(seed), _batch(seed + 100)
    painting_N = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 3])
    cosine_MxM = _cosine_table(np.concatenate([first_NxD, second_NxD]))
    weight_NxN = np.exp(SCALE * cosine_MxM[:12, 12:])
    expected = []
    for i, own in enumerate(painting_N):
        others = [j for j, other in enumerate(painting_N) if j == i or other != own]
        expected += [
            -np.log(weight_NxN[i, i] / sum(weight_NxN[i, j] for j in others)),
            -np.log(weight_NxN[i, i] / sum(weight_NxN[j, i] for j in others)),
        ]
    goal = dataclasses.replace(GOAL, view_weight=0.25, scale=SCALE)
    arrays = map(jnp.asarray, (first_NxD, second_NxD, painting_N))
    scalars = goal.with_views({"loss": jnp.ones(())}, *arrays)
    assert scalars["view_loss"] == pytest.approx(np.mean(expected), abs=ATOL)
    assert scalars["loss"] == pytest.approx(1 + np.mean(expected) / 4, abs=ATOL)


def test_two_views_have_the_gradient_of_pytorch(torch):
    views = [_batch(seed)[0] for seed in (0, 1)]

    def loss(first_NxD, second_NxD):
        cosine_NxN = batch_losses.cosines(first_NxD, second_NxD)
        return batch_losses.two_views(cosine_NxN, jnp.arange(12), scale=SCALE).mean()

    theirs = [torch.from_numpy(view).requires_grad_() for view in views]
    first_NxD, second_NxD = map(torch.nn.functional.normalize, theirs)
    logit = SCALE * first_NxD @ second_NxD.T
    entropy = torch.nn.functional.cross_entropy
    ((entropy(logit, torch.arange(12)) + entropy(logit.T, torch.arange(12))) / 2).backward()
    for ours, view in zip(jax.jit(jax.grad(loss, (0, 1)))(*views), theirs, strict=True):
        np.testing.assert_allclose(ours, view.grad, rtol=0, atol=ATOL)


def test_equal_embeddings_cost_the_margin_or_log_two():
    emb_NxD, artist_N = np.ones((4, 3), np.float32), np.array([0, 0, 1, 1])
    assert _loss("batch_all")(emb_NxD, artist_N)["loss"] == pytest.approx(MARGIN)
    assert _loss("batch_hard")(emb_NxD, artist_N)["loss"] == pytest.approx(MARGIN)
    assert _loss("batch_hard_soft")(emb_NxD, artist_N)["loss"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("name", IN_BATCH)
def test_memory_grows_with_the_square_of_the_batch(name):
    """Twice the batch takes four times the memory, not eight, with the gradient."""

    def temporary_bytes(count: int) -> int:
        def loss(emb_NxD: jax.Array) -> jax.Array:
            return _loss(name)(emb_NxD, np.arange(count) // 4, jnp.ones((count, 8)))["loss"]

        emb = jax.ShapeDtypeStruct((count, 8), jnp.float32)
        analysis: Any = jax.jit(jax.grad(loss)).lower(emb).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert temporary_bytes(512) < 5 * temporary_bytes(256)


def _rows(dim: int) -> np.ndarray:
    """Rows around 0, some near each other; TF32 and bfloat16 round all their numbers down."""
    rng = np.random.default_rng(0)
    sign_NxD = rng.choice([-1, 1], (8, dim))
    parts = []
    for flipped in (0, 0, 1, dim // 16, dim // 2):
        part_NxD = sign_NxD * (1 + rng.uniform(0.4, 0.49, sign_NxD.shape) / 2**10)
        part_NxD[:, :flipped] *= -1
        parts += [part_NxD, -part_NxD]
    return np.concatenate(parts).astype(np.float32)


def _share_of_the_bound(emb_NxD: np.ndarray) -> float:
    """The largest error of a squared distance, relative to the bound in the docstring."""
    true_NxD = emb_NxD.astype(float)
    expected_NxN = np.square(true_NxD[:, None] - true_NxD[None]).sum(axis=2)
    ours_NxN = np.asarray(batch_losses.pairwise_euclidean(jnp.asarray(emb_NxD)), float) ** 2
    longest = np.linalg.norm(true_NxD - true_NxD.mean(axis=0, keepdims=True), axis=1).max()
    bound = (4 * emb_NxD.shape[1] + 22) * longest**2 / 2**24
    return np.abs(ours_NxN - expected_NxN).max() / bound


@pytest.mark.parametrize("dim", [3, 64, 2048])
def test_errors_of_pairwise_distances_are_within_their_bound(dim, monkeypatch):
    """A matrix product in TF32 or bfloat16 would exceed it."""
    assert _share_of_the_bound(_rows(dim)) <= 1
    product = jnp.matmul
    for bits in (10, 7):
        rounded = functools.partial(jax.lax.reduce_precision, exponent_bits=8, mantissa_bits=bits)
        monkeypatch.setattr(jnp, "matmul", lambda x, y, r=rounded, **_: product(r(x), r(y)))
        assert _share_of_the_bound(_rows(dim)) > 1


def test_errors_of_pairwise_distances_do_not_grow_with_a_common_offset():
    emb_NxD = np.random.default_rng(0).normal(size=(4, 16)) + 100
    emb_NxD[1] = emb_NxD[0] + 1e-2
    assert _share_of_the_bound(emb_NxD.astype(np.float32)) <= 1


def test_masked_mean_of_nothing_is_zero():
    assert tuple_losses.masked_mean(jnp.array([1.0, jnp.inf]), jnp.array([False, False])) == 0


def test_masked_mean_of_more_than_an_int32_counts():
    def mean(value: jax.Array, valid: jax.Array) -> jax.Array:
        table = (46_400, 46_400)
        return tuple_losses.masked_mean(
            jnp.broadcast_to(value, table), jnp.broadcast_to(valid, table)
        )

    assert jax.jit(mean)(jnp.float32(2), jnp.bool_(True)) == pytest.approx(2)
