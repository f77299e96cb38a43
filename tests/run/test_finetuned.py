"""Runs that change a part of a network: they go on to the same bits, and keep that part alone."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest

from painterjax import train
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.model.backbones import BACKBONES
from painterjax.model.build import arrays_by_name
from painterjax.model.embedder import untrained
from painterjax.run import initial
from painterjax.run.checkpoint import Checkpoints
from painterjax.run.load import load_run
from painterjax.training import trainer
from painterjax.training.step import TrainState
from tests.helpers import tiny, tiny_transformer
from tests.helpers.runs import records

TRANSFORMER = {
    "model.backbone": tiny_transformer.NAME, "model.head": "linear", "model.embedding_dim": 8,
    "loss.margin": 1.0,
}  # fmt: skip
CONVOLUTIONS = {"model.widths": (8, 16), "model.depths": (1, 1), "model.embedding_dim": 8}
CASES = {
    "head": {**TRANSFORMER, "optimizer.backbone_rate": 0.0, "optimizer.ema_decay": 0.5},
    "adapters": {
        **TRANSFORMER, "model.lora_rank": 2, "loss.view_weight": 0.2, "augmentation.flips": True,
        "optimizer.clip_norm": 0.1, "optimizer.warmup_steps": 3, "model.dtype": "bfloat16",
    },
    "all": {
        **CONVOLUTIONS, "model.batch_norm": "frozen", "optimizer.backbone_rate": 0.1,
        "optimizer.layer_decay": 0.5, "optimizer.ema_decay": 0.9, "optimizer.clip_norm": 1.0,
        "optimizer.weight_decay": 0.1, "loss.name": "cosine_classifier", "loss.margin": 0.2,
    },
    "adapters by layer": {
        **TRANSFORMER, "model.lora_rank": 2, "optimizer.ema_decay": 0.9,
        "optimizer.layer_decay": 0.5,
    },
    "all with views": {**CONVOLUTIONS, "loss.view_weight": 0.2, "augmentation.flips": True},
    "all in bfloat16": {
        **CONVOLUTIONS, "model.batch_norm": "frozen", "model.dtype": "bfloat16",
    },
}  # fmt: skip


@pytest.fixture(params=CASES)
def recipe(request, config, monkeypatch) -> Config:
    tiny_transformer.install(monkeypatch)
    config.update_from_flattened_dict(CASES[request.param])
    return config


def _run(training: trainer.Training, state: TrainState, count: int) -> TrainState:
    for _ in range(count):
        state, _ = training.run(state, next(training.batches), 1)
    training.batches.close()
    return state


def _arrays(state: TrainState) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def test_two_steps_a_checkpoint_and_two_steps_are_four_steps(recipe, split, tmp_path):
    training = trainer.build(recipe, split)
    expected = _arrays(_run(training, training.state, 4))
    begun = trainer.build(recipe, split)
    state = _run(begun, begun.state, 2)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(state, step=2, roc_auc=None, window=[])
    _assert_small(tmp_path, state)
    goes_on = trainer.build(recipe, split, start=2)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        restored, _ = checkpoints.restore(goes_on.state)
    found = _arrays(_run(goes_on, restored, 2))
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def _assert_small(run: Path, state: TrainState) -> None:
    """A checkpoint has the bytes of its state, and 10 KB of descriptions."""
    files = run.glob("checkpoints/2/*/**/d/*")
    size = sum(path.stat().st_size for path in files)
    assert size < sum(array.nbytes for array in jax.tree.leaves(state)) + 10_000


@pytest.mark.slow
def test_a_run_of_adapters_embeds_by_the_average_of_what_it_trained(
    tiny_store, tmp_path, monkeypatch
):
    """On top of published weights, which its checkpoints do not have."""
    tiny_transformer.install(monkeypatch)
    path = tmp_path / "run"
    changes = {
        **TRANSFORMER, "model.lora_rank": 2, "optimizer.ema_decay": 0.9, "num_epochs": 1,
        "optimizer.learning_rate": 0.01, "eval.batch_size": 8,
    }  # fmt: skip
    train.main(tiny.argv(tiny_store, path, *(f"--config.{k}={v}" for k, v in changes.items())))
    run = load_run(path)
    start = untrained(run.config, image_size=32)
    training = trainer.build(run.config, run.store.splits["train"])
    training.batches.close()
    with contextlib.closing(Checkpoints(path)) as checkpoints:
        state, _ = checkpoints.restore(training.state)
    before, after = arrays_by_name(start.arrays), arrays_by_name(run.embedder.arrays)
    average, raw = (arrays_by_name({"params": params}) for params in (state.average, state.params))
    assert before.keys() == after.keys()
    for name, array in after.items():
        is_trained = name in average
        assert is_trained == ("lora" in name or ".head." in name)
        expected = average[name] if is_trained else before[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)
        assert (np.asarray(array) != before[name]).any() == is_trained
        assert not is_trained or (np.asarray(array) != raw[name]).any()
    assert (path / "evaluation.json").exists()
    _assert_bound_to_weights(path, monkeypatch)


@pytest.mark.parametrize("rank", [0, 4])
def test_adapters_of_another_run_are_not_lost_unsaid(run, config, tmp_path, rank):
    adapted = tmp_path / "adapted"
    shutil.copytree(run, adapted)
    theirs = json.loads((run / "config.json").read_text())
    theirs["model"]["lora_rank"] = 2
    (adapted / "config.json").write_text(json.dumps(theirs))
    config.model.lora_rank = rank
    refusal = f"model.lora_rank 2, this recipe {rank}, .*set the same rank"
    with pytest.raises(InputError, match=refusal):
        initial.check(tmp_path / "run", adapted, config, has_checkpoint=False)


def _assert_bound_to_weights(run: Path, monkeypatch) -> None:
    """Other published weights under what the run has trained would be another network, unsaid."""
    monkeypatch.setattr(tiny_transformer.Published, "file_sha256", lambda *_: "others")
    with pytest.raises(InputError, match="whose SHA-256 is 0 of , those at hand have others"):
        load_run(run)
    monkeypatch.undo()
    tiny_transformer.install(monkeypatch)


def test_what_another_run_has_learned_of_its_backbone_is_not_lost_unsaid(
    run, tiny_store, tmp_path, monkeypatch
):
    tiny_transformer.install(monkeypatch)
    changes = {**TRANSFORMER, "model.lora_rank": 2}
    argv = tiny.argv(tiny_store, tmp_path / "run", "--init-from", str(run))
    with pytest.raises(InputError, match=f"{run} has trained its backbone.*lora_rank to 0"):
        train.main([*argv, *(f"--config.{k}={v}" for k, v in changes.items())])


class _PublishedConvolutions(tiny_transformer.Published):
    """With variances of BatchNorm above 0."""

    def read(self, _: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        found = super().read(_, shapes)
        return {k: np.abs(v) + 0.5 if k.endswith("var") else v for k, v in found.items()}


@pytest.mark.slow
def test_frozen_statistics_are_the_published_ones_also_when_the_run_is_opened(
    tiny_store, tmp_path, monkeypatch
):
    """A checkpoint has all parameters, and not the statistics: commands must find them."""
    row = dataclasses.replace(BACKBONES["conv_blocks"], published=_PublishedConvolutions())
    monkeypatch.setitem(BACKBONES, "conv_blocks", row)
    path = tmp_path / "run"
    changes = {**CONVOLUTIONS, "model.batch_norm": "frozen", "optimizer.backbone_rate": 0.1}
    words = (f"--config.{key}={value}" for key, value in {**changes, "num_epochs": 1}.items())
    train.main(tiny.argv(tiny_store, path, *words))
    opened = load_run(path)
    start = arrays_by_name(untrained(opened.config, image_size=32).arrays)
    found = arrays_by_name(opened.embedder.arrays)
    statistics = [name for name in found if name.startswith("stats")]
    assert statistics and any((np.asarray(start[name]) > 0.6).any() for name in statistics)
    for name in statistics:
        np.testing.assert_array_equal(found[name], start[name])
    (validated,) = (record for record in records(path) if record["split"] == "val")
    evaluation = json.loads((path / "evaluation.json").read_text())
    # The same triplets, by the same network in batches of the same size.
    assert evaluation["val"]["roc_auc"]["value"] == pytest.approx(validated["roc_auc"], abs=1e-3)
    # Another run's statistics would be lost.
    config = opened.config.copy_and_resolve_references()
    theirs = json.loads((path / "config.json").read_text())
    theirs["model"]["batch_norm"] = "batch"
    (path / "config.json").write_text(json.dumps(theirs))
    with pytest.raises(InputError, match="has trained its BatchNorm statistics"):
        initial.check(tmp_path / "other", path, config, has_checkpoint=False)


def test_a_head_is_not_both_fitted_and_another_run_s(run, config, tmp_path):
    config.head.fit = "lda"
    with pytest.raises(InputError, match=r"has a head, and head\.fit lda would fit another"):
        initial.check(tmp_path / "new", run, config, has_checkpoint=False)
