"""What a run ended with, and whether another ended with the same."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax.data import store
from painterjax.model.trainable import keeps_backbone
from painterjax.run import features, metrics_log
from painterjax.run import folder as run_folder
from painterjax.run.checkpoint import Checkpoints
from painterjax.training import trainer
from tests.helpers.tiny import summaries


def records(run: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl without what a clock measured."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.endswith(metrics_log.WALL_CLOCK)}
        for line in lines
    ]


def last_state(run: Path) -> tuple[dict[str, np.ndarray], Any]:
    """All arrays of a run's last state by name, and the position of its data."""
    config = run_folder.read_config(run)
    opened = store.open_store(config.data.store)
    if keeps_backbone(config):
        opened = features.with_features(config, opened, ("train",))
    training = trainer.build(config, opened.splits["train"])
    checkpoints = Checkpoints(run)
    state, _ = checkpoints.restore(training.state)
    position = training.plan.dispatch_after(int(state.step))
    checkpoints.close()
    training.batches.close()
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, position


def events(run: Path) -> dict[tuple[int, str], Any]:
    """Scalars and images of all TensorBoard event files, without what a clock measured."""
    return {
        (step, v.tag): v.image.encoded_image_string if v.HasField("image") else v.simple_value
        for step, v in summaries(run)
        if not v.tag.endswith(metrics_log.WALL_CLOCK)
    }


def assert_same(one: Path, other: Path) -> None:
    """Two runs have the same last state, records, events and evaluation."""
    arrays, position = last_state(one)
    expected_arrays, expected_position = last_state(other)
    assert position == expected_position
    assert arrays.keys() == expected_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected_arrays[name], err_msg=name)
    assert records(one) == records(other)
    assert events(one) == events(other)
    judged = [json.loads((run / "evaluation.json").read_text()) for run in (one, other)]
    assert judged[0] == judged[1]
