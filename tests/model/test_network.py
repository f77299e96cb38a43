"""The network against PyTorch's, and its numbers in bfloat16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import default, scratch
from painterjax.model.build import assemble, build_network, split_network
from painterjax.model.network import StyleNet

# Rounding changes a sum of K terms by about sqrt(K) / 2^24 of it. The layers have 28,000 terms in
# all, which makes 1e-5; and ten times that, as the layers behind may magnify it.
RTOL = 1e-4


def _network(
    *, image_size: int, dtype: str = "float32", seed: int = 0, head: str = "dense"
) -> StyleNet:
    config = default.get_config()
    config.seed, config.model.dtype, config.model.head = seed, dtype, head
    return assemble(config, image_size=image_size)


@functools.partial(jax.jit, static_argnames=("network", "branches"))
def _apply(network, params, stats, image_NxSxSxC, *, branches: int | None):
    merged = nnx.merge(network, params, stats)
    emb_NxD = merged(image_NxSxSxC, branches=branches)
    return emb_NxD, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat))


def _images(*, count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def _plausible_stats(*, image_size: int) -> dict:
    """Statistics as after training: with the initial ones activations vanish."""
    return _plausible(split_network(_network(image_size=image_size))[2])


def _plausible(stats: dict) -> dict:
    rng = np.random.default_rng(0)
    for norm in (
        norm for block in stats["backbone"]["blocks"].values() for norm in block["norms"].values()
    ):
        shape = norm["mean"].shape
        norm["mean"] = jnp.asarray(rng.normal(0, 0.1, shape), jnp.float32)
        norm["var"] = jnp.asarray(rng.uniform(0.1, 0.4, shape), jnp.float32)
    return stats


def _relative_error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("branches", [None, 1, 2])
@pytest.mark.parametrize("image_size", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_embeddings_and_statistics_match_pytorch(image_size, branches, torch):
    from benchmarks import pytorch_reference

    network, params, _ = split_network(_network(image_size=image_size))
    stats = _plausible_stats(image_size=image_size)
    theirs = pytorch_reference.StyleNet(image_size=image_size)
    theirs.load_painterjax(params, stats)
    theirs.train(branches is not None)
    image_NxSxSxC = _images(count=4, size=image_size)
    with torch.no_grad():
        parts = torch.from_numpy(image_NxSxSxC).permute(0, 3, 1, 2).chunk(branches or 1)
        their_emb_NxD = torch.cat([theirs(part) for part in parts]).numpy()
    emb_NxD, new_stats = _apply(network, params, stats, image_NxSxSxC, branches=branches)
    assert _relative_error(their_emb_NxD[0], their_emb_NxD[1]) > 0.05
    assert _relative_error(emb_NxD, their_emb_NxD) < RTOL
    their_state = theirs.state_dict()
    for name, array in pytorch_reference.from_painterjax(params, new_stats).items():
        if "running" in name:
            assert _relative_error(array, their_state[name]) < RTOL, name


@pytest.mark.parametrize("image_size", [64, 80])  # of training and of judging
def test_embeddings_of_scratch_match_pytorch(image_size, torch):
    from benchmarks import pytorch_reference, pytorch_scratch

    config = scratch.get_config()
    network, params, stats = build_network(config, image_size=64)
    stats, proxies = _plausible(stats), {"artist": np.zeros((2, config.model.embedding_dim))}
    theirs = pytorch_scratch.Classifier(config, 2).eval()
    state = pytorch_scratch.from_painterjax(params, stats, proxies)
    pytorch_reference.load(theirs, state)
    image_NxSxSxC = _images(count=4, size=image_size)
    with torch.no_grad():
        image_NxCxSxS = torch.from_numpy(image_NxSxSxC).permute(0, 3, 1, 2)
        their_emb_NxD = theirs.network(image_NxCxSxS).numpy()
    emb_NxD, _ = _apply(network, params, stats, image_NxSxSxC, branches=None)
    assert _relative_error(their_emb_NxD[0], their_emb_NxD[1]) > 10 * RTOL
    assert _relative_error(emb_NxD, their_emb_NxD) < RTOL


def test_initial_weights_are_distributed_as_in_pytorch(torch):
    from benchmarks import pytorch_reference

    torch.manual_seed(0)
    theirs = dict(pytorch_reference.StyleNet(image_size=64).named_parameters())
    _, params, stats = split_network(_network(image_size=64))
    for name, ours in pytorch_reference.from_painterjax(params, stats).items():
        if name in theirs and (ours.ndim > 1 or name == "linear.bias"):
            # 432 to 2 million draws from a uniform distribution, whose standard deviation is known
            # to 1 / sqrt(5 n).
            tolerance = 6 / (5 * ours.numel()) ** 0.5
            np.testing.assert_allclose(ours.std(), theirs[name].detach().std(), rtol=tolerance)
            assert ours.abs().max() <= theirs[name].abs().max() * (1 + tolerance)


def test_bfloat16_is_near_float32_and_keeps_float32_state():
    network, params, stats = split_network(_network(image_size=64))
    low, low_params, low_stats = split_network(_network(image_size=64, dtype="bfloat16"))
    image_NxSxSxC = _images(count=8, size=64)
    emb_NxD, new_stats = _apply(network, params, stats, image_NxSxSxC, branches=1)
    low_emb_NxD, new_low_stats = _apply(low, low_params, low_stats, image_NxSxSxC, branches=1)
    leaves = jax.tree.leaves((low_params, new_low_stats, low_emb_NxD))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    # 15 layers, in which numbers are rounded to 1 / 512 of themselves: 0.01, and ten times that.
    assert RTOL < _relative_error(low_emb_NxD, emb_NxD) < 0.1
    for ours, expected in zip(*map(jax.tree.leaves, (new_low_stats, new_stats)), strict=True):
        assert _relative_error(ours, expected) < 0.1


def test_weights_depend_on_the_seed_alone():
    first, second, other = (
        split_network(_network(image_size=32, seed=seed))[1] for seed in (0, 0, 1)
    )
    kernels = [tree["head"]["linear"]["kernel"] for tree in (first, second, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert _relative_error(kernels[2], kernels[0]) > 1


def test_branches_are_normalized_separately():
    """One call with two branches equals two calls with one branch each."""
    network, params, stats = split_network(_network(image_size=32))
    image_NxSxSxC = _images(count=6, size=32)
    together_NxD, stats_together = _apply(network, params, stats, image_NxSxSxC, branches=2)
    first_NxD, between = _apply(network, params, stats, image_NxSxSxC[:3], branches=1)
    second_NxD, stats_apart = _apply(network, params, between, image_NxSxSxC[3:], branches=1)
    assert _relative_error(together_NxD, np.concatenate([first_NxD, second_NxD])) < RTOL
    for ours, theirs in zip(*map(jax.tree.leaves, (stats_together, stats_apart)), strict=True):
        assert _relative_error(ours, theirs) < RTOL
    whole_NxD, _ = _apply(network, params, stats, image_NxSxSxC, branches=1)
    assert _relative_error(whole_NxD, together_NxD) > 10 * RTOL


@pytest.mark.parametrize("size", [32, 48, 80])
def test_the_statistics_head_takes_any_size(size):
    network, params, stats = split_network(_network(image_size=32, head="statistics"))
    emb_NxD, _ = _apply(network, params, stats, _images(count=3, size=size), branches=None)
    # A sum of 2,048 squares is right to 2,048 / 2^24 = 1.2e-4.
    np.testing.assert_allclose(np.linalg.norm(emb_NxD, axis=1), np.ones(3), rtol=1e-3)
