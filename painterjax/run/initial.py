"""Weights that a training starts from: a fitted head, or another run's as far as they fit."""

import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import jax

from painterjax.common import checksums
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data.store import Store
from painterjax.distributed import processes, sharding
from painterjax.model import backbones
from painterjax.model.build import array_name, arrays_by_name
from painterjax.model.trainable import changes_all, trains_all
from painterjax.run import config_checks, features, lineage
from painterjax.run import folder as run_folder
from painterjax.run.load import NETWORK, Run, load_run
from painterjax.training import lda
from painterjax.training.trainer import Training


def check(run: Path, init_from: Path | None, config: Config, *, has_checkpoint: bool) -> None:
    """Checks which run a training may start from, if any.

    Raises:
      InputError: `run` was begun from another run than `init_from`, which may be left out, or be
        gone, once `run` has a checkpoint; or it is not known what `init_from` was trained on; or
        `config` would not take over what it has learned of its backbone.
    """
    begun_from = lineage.read(run).run
    if not begun_from:
        if init_from and (run / "config.json").exists():
            raise InputError(
                f"{run} was begun without --init-from: leave it out, or choose another --workdir"
            )
    elif init_from is None:
        if not has_checkpoint:
            raise InputError(
                f"{run} was begun with --init-from {begun_from} and has no checkpoint yet:"
                " repeat that, or choose another --workdir"
            )
    elif init_from.resolve() != Path(begun_from).resolve():
        raise InputError(
            f"{run} was begun with --init-from {begun_from}, not {init_from}: repeat that, or"
            " choose another --workdir"
        )
    if init_from and not has_checkpoint:
        if config.head.fit == "lda":
            raise InputError(
                f"--init-from {init_from} has a head, and head.fit lda would fit another: set"
                " head.fit to gradient, or leave --init-from out"
            )
        lineage.read(init_from)
        try:
            run_folder.open_store_of(init_from)
        except InputError as error:
            raise InputError(f"--init-from {init_from}: {error}") from error
        _check_backbone(config, init_from)


def _check_backbone(config: Config, init_from: Path) -> None:
    theirs = run_folder.read_config(init_from)
    config_checks.check_keys(theirs, of=init_from)
    own, other = config.model.lora_rank, theirs.model.lora_rank
    if other not in (0, own):
        raise InputError(
            f"--init-from {init_from} has model.lora_rank {other}, this recipe {own}, which would"
            " lose its adapters: set the same rank, or choose another run"
        )
    if changes_all(theirs) and config.model.batch_norm == "frozen":
        raise InputError(
            f"--init-from {init_from} has trained its BatchNorm statistics, and this recipe would"
            " keep the published ones: set model.batch_norm as there, or choose another run"
        )
    if not trains_all(theirs):
        run_folder.check_weights(init_from, config)
    if trains_all(theirs) and not trains_all(config):
        raise InputError(
            f"--init-from {init_from} has trained its backbone, and this recipe would train on the"
            " published one: set optimizer.backbone_rate above 0 and model.lora_rank to 0, or"
            " choose another run"
        )


def weights_sha256(config: Config, init_from: Path | None) -> dict[str, str]:
    """Returns what tells first weights from others without loading them; "" is none."""
    sums = sorted(init_from.glob(f"checkpoints/*/{checksums.NAME}")) if init_from else []
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sums)).hexdigest()
    published = backbones.weights_sha256(config.model)
    return {"init_from": digest if init_from else "", "weights": published}


def first_weights(
    config: Config, store: Store, training: Training, path: Path, init_from: Path | None
) -> tuple[Training, dict[str, Any] | None]:
    """Returns a training with the weights that it starts from, and their origin in another run.

    Args:
      config: the recipe; its `head.fit` says whether the head is fitted.
      store: where the training paintings are.
      training: what would start from random weights and those of a pretrained backbone.
      path: the folder of the training.
      init_from: the run whose weights to start from, as many as fit.

    Raises:
      InputError: nothing of `init_from` fits.
    """
    if config.head.fit == "lda":
        split = features.with_features(config, store, ("train",)).splits["train"]
        training = lda.start(training, split, dim=config.model.embedding_dim)
    if init_from is None:
        return training, None
    source = load_run(init_from)
    return start_from(training, source, path), origin(source)


def start_from(training: Training, source: Run, run: Path) -> Training:
    """Returns a training that starts from the best weights and BatchNorm statistics of a run.

    An array is taken if the run has one of that name and shape; a line lists the others.

    Args:
      training: what would start as usual.
      source: the run to start from.
      run: the folder of the training.

    Raises:
      InputError: there is no such array, or an earlier start of `run` took other weights.
    """
    earlier = lineage.read(run).network_sha256
    if earlier and earlier != source.origin[NETWORK]:
        raise InputError(
            f"{run} was begun with other weights of {source.path} ({NETWORK} was {earlier}, is"
            f" {source.origin[NETWORK]}): choose another --workdir"
        )
    network = {"params": training.state.params, "stats": training.state.stats}
    own, found = arrays_by_name(network), arrays_by_name(source.embedder.arrays)
    fitting = {name for name in own.keys() & found.keys() if own[name].shape == found[name].shape}
    if not fitting:
        raise InputError(f"--init-from {source.path}: no array of it fits this recipe's network")

    def choose(path: jax.tree_util.KeyPath, array: jax.Array) -> jax.Array:
        name = array_name(path)
        return sharding.replicate(training.mesh, found[name]) if name in fitting else array

    chosen = jax.tree.map_with_path(choose, network)
    if processes.is_writer():
        others = sorted(own.keys() - fitting)
        kept = f"; as usual start {', '.join(others)}" if others else ""
        print(f"train: {len(fitting)} arrays start as in {source.path}{kept}", file=sys.stderr)
    state = training.state.starting_from(chosen["params"])
    return dataclasses.replace(training, state=dataclasses.replace(state, stats=chosen["stats"]))


def origin(source: Run) -> dict[str, Any]:
    """Returns what init_from.json keeps: which network it is, and what that was trained on."""
    trained_on = source.lineage.with_store(source.store)
    return {**source.origin, "run": str(source.path.resolve()), **trained_on}
