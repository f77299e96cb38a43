"""Heads: what they read, counted and against NumPy, and how they map it."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from painterjax.model import heads
from painterjax.model.heads import HEADS


def _stages(side: int, channels: tuple[int, ...]) -> list[jnp.ndarray]:
    """Random stages, each of half the side of the one before."""
    rng = np.random.default_rng(0)
    sides = [side // 2**number for number in range(len(channels))]
    return [
        jnp.asarray(rng.normal(1, 2, (2, s, s, c)), jnp.float32)
        for s, c in zip(sides, channels, strict=True)
    ]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_s_row_is_true(name):
    head, channels = HEADS[name], (3, 4, 5)
    feature_NxF, other_NxF = (head.read(_stages(side, channels)) for side in (16, 32))
    assert feature_NxF.shape == (2, head.features(16, channels))
    assert other_NxF.shape == (2, head.features(32, channels))
    assert (feature_NxF.shape == other_NxF.shape) == head.any_size
    module = head.module(feature_NxF.shape[1], 6, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    emb_NxD = module(feature_NxF)
    assert (emb_NxD.shape, emb_NxD.dtype) == ((2, 6), jnp.float32)
    length_N = np.linalg.norm(emb_NxD, axis=1)
    # Before, squared lengths are above 0.1, to which EPSILON = 1e-5 is added: half of 1e-4.
    assert np.allclose(length_N, 1, rtol=0, atol=1e-4) == head.unit_length


def test_statistics_match_numpy_for_images_and_for_tokens():
    rng = np.random.default_rng(0)
    stages = [rng.normal(3, 2, shape).astype(np.float32) for shape in ((2, 6, 4, 5), (2, 7, 3))]
    ours_NxF = heads.statistics([jnp.asarray(stage) for stage in stages])
    axes = [(1, 2), (1,)]
    expected_NxF = np.concatenate(
        [f(x, axis=a) for x, a in zip(stages, axes, strict=True) for f in (np.mean, np.std)], axis=1
    )
    # Sums of 24 terms, right to 24 / 2^24; and EPSILON = 1e-5 beside variances above 1.
    np.testing.assert_allclose(ours_NxF, expected_NxF, rtol=1e-5)


@pytest.mark.parametrize("name", ["statistics", "linear"])
def test_heads_of_unit_length_match_numpy(name):
    head = HEADS[name].module(992, 2048, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    feature_NxF = np.random.default_rng(0).normal(1, 2, (2, 992)).astype(np.float32)
    ours_NxD = head(jnp.asarray(feature_NxF))
    if name == "statistics":
        feature_NxF -= feature_NxF.mean(axis=1, keepdims=True)
        feature_NxF /= feature_NxF.std(axis=1, keepdims=True)
    expected_NxD = feature_NxF @ np.asarray(head.linear.kernel) + np.asarray(head.linear.bias)
    expected_NxD /= np.linalg.norm(expected_NxD, axis=1, keepdims=True)
    # Sums of 992 terms, of a whole of 26, to 992 / 2^24 of their absolute values, 13: 3e-5.
    np.testing.assert_allclose(ours_NxD, expected_NxD, rtol=1e-3, atol=1e-4)
