"""Validation while training: what it says of losses over tuples and over batches."""

import jax.numpy as jnp
import pytest

from painterjax.data import store
from painterjax.training import validation
from painterjax.training.step import TrainState


@pytest.mark.parametrize(("loss", "has_margin"), [("triplet", True), ("batch_all", False)])
def test_the_margin_of_a_loss_over_batches_is_no_margin_of_triplets(
    loss, has_margin, config, tiny_store
):
    config.model.widths, config.model.depths, config.loss.name = (8, 16), (1, 1), loss
    validator = validation.prepare(config, store.open_store(tiny_store))
    embedder = validator.embedder
    state = TrainState(embedder.params, {}, embedder.stats, (), jnp.zeros((), jnp.int32))
    figures = validator.judge(state, lambda _: None)
    assert {"accuracy", "positive_distance", "roc_auc", "recall_at_1"} <= figures.keys()
    of_margin = {"loss", "active_fraction"}
    assert of_margin & figures.keys() == (of_margin if has_margin else set())
