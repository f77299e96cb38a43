"""Losses of tuples against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from painterjax.losses import objectives
from painterjax.losses import tuples as tuple_losses


def _embeddings(*, seed: int, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("seed", range(3))
def test_triplet_loss_matches_pytorch(seed, torch):
    emb_3xBxD = _embeddings(seed=seed, shape=(3, 32, 8))
    anchor_BxD, positive_BxD, negative_BxD = map(jnp.asarray, emb_3xBxD)
    ours_B = tuple_losses.triplet(
        tuple_losses.euclidean(anchor_BxD, positive_BxD),
        tuple_losses.euclidean(anchor_BxD, negative_BxD),
        margin=0.7,
    )
    # PyTorch adds eps to each difference, 1e-6 by default.
    theirs_B = torch.nn.functional.triplet_margin_loss(
        *map(torch.from_numpy, emb_3xBxD), margin=0.7, eps=0, reduction="none"
    )
    active = (ours_B > 0).mean()
    assert 0.1 < active < 0.9
    # Four distances of 8 numbers, all below 10, each right to 6 / 2^24 of itself.
    np.testing.assert_allclose(ours_B, theirs_B.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_contrastive_loss_matches_pytorch(seed, torch):
    """Half the square of its hinge_embedding_loss, with 1 for same and -1 for different."""
    first_BxD, second_BxD = _embeddings(seed=seed, shape=(2, 64, 3))
    different_B = np.random.default_rng(seed).random(64) < 0.5
    distance_B = tuple_losses.euclidean(jnp.asarray(first_BxD), jnp.asarray(second_BxD))
    ours_B = tuple_losses.contrastive(distance_B, jnp.asarray(different_B), margin=2.0)
    their_distance_B = torch.nn.functional.pairwise_distance(
        torch.from_numpy(first_BxD), torch.from_numpy(second_BxD), eps=0
    )
    sign_B = torch.from_numpy(np.where(different_B, -1.0, 1.0))
    hinge_B = torch.nn.functional.hinge_embedding_loss(
        their_distance_B, sign_B, margin=2.0, reduction="none"
    )
    assert 0 < (np.asarray(ours_B) == 0).sum() < 32
    # Distances of 3 numbers are right to 4 / 2^24 of themselves, and the margin is 2.
    np.testing.assert_allclose(ours_B, hinge_B.numpy() ** 2 / 2, rtol=1e-5, atol=1e-5)


def test_mean_squared_is_one_number_over_the_batch(torch):
    first_BxD, second_BxD = _embeddings(seed=0, shape=(2, 5, 7))
    ours = tuple_losses.mean_squared(jnp.asarray(first_BxD), jnp.asarray(second_BxD))
    theirs = torch.nn.functional.mse_loss(torch.from_numpy(first_BxD), torch.from_numpy(second_BxD))
    assert ours.shape == ()
    # Two float32 sums of 35 squares, each right to 38 / 2^24 of itself.
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("distance", "accuracy"), [("euclidean", 0.5), ("mean_squared", 1.0)])
def test_accuracy_of_pairs_is_by_the_trained_distance(distance, accuracy):
    """The same pair is at 1, by mean_squared at 0.25, the different pair at 4 by both."""
    emb_BxTxD = jnp.array([[0.0, 0.5], [0.0, 2.0]])[:, :, None] * jnp.ones((1, 1, 4))
    batch = objectives.Batch(
        emb_BxTxD, jnp.array([[0, 0], [0, 1]]), jnp.array([[0, 1], [0, 2]]), {}
    )
    scalars = objectives.contrastive(batch, margin=1.5, distance=distance)
    assert scalars["accuracy"] == accuracy


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_of_equal_embeddings_are_finite(dtype):
    emb_NxD = jnp.ones((4, 3), dtype)

    def loss(emb_NxD):
        distance_B = tuple_losses.euclidean(emb_NxD[:2], emb_NxD[2:])
        pair_B = tuple_losses.contrastive(distance_B, jnp.array([True, False]), margin=1.0)
        return pair_B.sum() + tuple_losses.triplet(distance_B, distance_B, margin=1.0).sum()

    value, grad_NxD = jax.value_and_grad(loss)(emb_NxD)
    assert float(value) == 2.5  # the margin of two triplets, and half its square of a pair
    assert jnp.isfinite(grad_NxD).all()
