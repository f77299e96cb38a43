"""Fine-tuning: what trains and what does not."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.model.build import arrays_by_name
from painterjax.model.embedder import untrained
from painterjax.model.trainable import overlay
from painterjax.training import trainer
from painterjax.training.step import TrainState
from tests.helpers import tiny_transformer


@pytest.fixture
def finetuned(config, monkeypatch) -> Config:
    """A recipe for a tiny transformer; three steps an epoch."""
    tiny_transformer.install(monkeypatch)
    config.model.backbone, config.model.head = tiny_transformer.NAME, "linear"
    config.model.embedding_dim = 8
    config.loss.name, config.loss.paintings_per_artist = "supervised_contrastive", 3
    return config


@pytest.fixture
def small(config) -> Config:
    """A recipe for convolutions that compile fast."""
    config.model.update(widths=(4, 8), depths=(1, 1), head="statistics", embedding_dim=8)
    config.loss.margin = 1.0
    return config


def _steps(training: trainer.Training, count: int) -> tuple[TrainState, dict[str, Any]]:
    """The state behind a training's next steps, and the scalars of the last one."""
    state, scalars = training.state, {}
    for _ in range(count):
        state, scalars = training.run(state, next(training.batches), 1)
    training.batches.close()
    return state, {name: float(value[0]) for name, value in scalars.items()}


def _size(tree: Any) -> int:
    return sum(array.size for array in jax.tree.leaves(tree))


@pytest.mark.parametrize(("backbone_rate", "rank"), [(0.0, 0), (1.0, 2)])
def test_only_what_trains_has_optimizer_state(finetuned, split, backbone_rate, rank):
    finetuned.optimizer.backbone_rate, finetuned.model.lora_rank = backbone_rate, rank
    training = trainer.build(finetuned, split)
    before = {name: np.array(a) for name, a in arrays_by_name(training.state.params).items()}
    of_backbone = [name for name in before if name.startswith("backbone")]
    # Two matrices of each adapter of query and value in two blocks.
    assert len(of_backbone) == (8 if rank else 0)
    assert all("_adapter.lora_" in name for name in of_backbone)
    assert _size(training.state.moments) == 2 * _size(training.state.params) + 2  # Two counters.
    state, _ = _steps(training, 2)
    for name, array in arrays_by_name(state.params).items():
        assert (np.asarray(array) != before[name]).any(), name


def test_frozen_batch_norm_takes_and_keeps_its_running_statistics(small, split):
    """What the step embeds is what the same network embeds in evaluation."""
    small.model.batch_norm = "frozen"
    training, rng = trainer.build(small, split), np.random.default_rng(0)
    stats = jax.tree.map(
        lambda array: jax.numpy.asarray(rng.uniform(0.1, 0.4, array.shape), array.dtype),
        training.constants.fixed["stats"],
    )
    fixed = {**training.constants.fixed, "stats": stats}
    training = dataclasses.replace(
        training, constants=dataclasses.replace(training.constants, fixed=fixed)
    )
    embedder = untrained(small, image_size=32).with_arrays(training.state.params, stats)
    first = training.source.rows(sampling.artist_rows(split.artist_N), 0)["row"]
    emb_NxD = embedder.embed(split.image_NxSxSxC[first.reshape(-1)])
    state, scalars = _steps(training, 1)
    assert state.stats == {}
    # Rounded as in test_network.py.
    norm = np.sqrt(np.square(emb_NxD).sum(1).mean())
    assert scalars["embedding_norm"] == pytest.approx(norm, rel=1e-4)
    assert scalars["embedding_spread"] == pytest.approx(np.sqrt(emb_NxD.var(0).sum()), rel=1e-4)


def test_the_average_is_that_of_the_parameters_behind_each_step(small, split):
    small.optimizer.ema_decay = 0.5
    training, states = trainer.build(small, split), []
    state = training.state
    for _ in range(4):
        state, _ = training.run(state, next(training.batches), 1)
        states.append(jax.device_get((state.params, state.average)))
    training.batches.close()
    params, averages = zip(*states, strict=True)
    for name, average in arrays_by_name(averages[-1]).items():
        each = [arrays_by_name(tree)[name].astype(np.float64) for tree in params]
        expected = np.average(each, axis=0, weights=[1 / 8, 1 / 4, 1 / 2, 1])
        # Four sums of two terms, each rounded thrice, to 2^-24 of numbers of up to 1.
        np.testing.assert_allclose(average, expected, rtol=0, atol=12 * np.abs(each).max() / 2**24)
        np.testing.assert_array_equal(arrays_by_name(averages[0])[name], each[0].astype(np.float32))


def test_second_views_add_their_loss_each_beside_its_first(small, split):
    """Where views are all but equal, and cosines count much, each view tells its image at once."""
    small.model.batch_norm, small.loss.scale, small.augmentation.contrast = "frozen", 200.0, 1e-6
    _, without = _steps(trainer.build(small, split), 1)
    small.loss.view_weight = 0.25
    _, scalars = _steps(trainer.build(small, split), 1)
    assert 0 < scalars["view_loss"] < 0.1
    assert scalars["loss"] == pytest.approx(without["loss"] + scalars["view_loss"] / 4, rel=1e-4)
    for name in ("accuracy", "embedding_spread", "embedding_norm", "positive_distance"):
        assert scalars[name] == pytest.approx(without[name], rel=1e-3)


def test_adapters_change_nothing_at_first_and_merge_into_the_weights(finetuned, split):
    """W + A B in the place of W, in a network without adapters, embeds alike."""
    plain = untrained(finetuned, image_size=32)
    finetuned.model.lora_rank = 3
    adapted = untrained(finetuned, image_size=32)
    images = split.image_NxSxSxC[:8]
    before = plain.embed(images)
    np.testing.assert_array_equal(adapted.embed(images), before)
    finetuned.optimizer.learning_rate = 0.1
    state, _ = _steps(trainer.build(finetuned, split), 3)
    trained = adapted.with_arrays(state.params, state.stats)
    merged = jax.device_get(overlay(plain.arrays, {"params": {"head": state.params["head"]}}))
    for number, block in merged["params"]["backbone"]["blocks"].items():
        for name in ("query", "value"):
            adapter = state.params["backbone"]["blocks"][number][f"{name}_adapter"]
            added = np.asarray(adapter["lora_a"]) @ np.asarray(adapter["lora_b"])
            assert added.shape == (16, 16) and np.linalg.matrix_rank(added) == 3
            block[name]["kernel"] = block[name]["kernel"] + added
    expected = plain.with_arrays(**merged).embed(images)
    # Of 8 numbers of length 1, rounded as in test_vit.py; training has moved them much more.
    np.testing.assert_allclose(trained.embed(images), expected, rtol=0, atol=1e-4)
    moved = adapted.with_arrays({"backbone": state.params["backbone"]}, {}).embed(images)
    assert np.abs(moved - before).max() > 1e-3


def test_an_average_begins_with_the_weights_that_training_starts_from(small, split):
    """As a run that is fitted in closed form, or begun from another, is judged before a step."""
    small.optimizer.ema_decay = 0.9
    training = trainer.build(small, split)
    other = jax.tree.map(lambda array: array + 1, training.state.params)
    state = training.state.starting_from(other)
    for array, expected in zip(*map(jax.tree.leaves, (state.judged_params, other)), strict=True):
        np.testing.assert_array_equal(array, expected)
    state, _ = training.run(state, next(training.batches), 1)  # Gives both away.
    training.batches.close()
    assert state.judged_params is not state.params
