"""Weights that a training starts from: those of another run, as many as fit."""

import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any

import jax

from painterjax.common import checksums
from painterjax.common.errors import InputError
from painterjax.distributed import processes, sharding
from painterjax.model.build import array_name, arrays_by_name
from painterjax.run import folder as run_folder
from painterjax.run import lineage
from painterjax.run.load import NETWORK, Run
from painterjax.training.trainer import Training


def check(run: Path, init_from: Path | None, *, has_checkpoint: bool) -> None:
    """Checks which run a training may start from, if any.

    Raises:
      InputError: `run` was begun from another run than `init_from`, which may be left out, or be
        gone, once `run` has a checkpoint; or it is not known what `init_from` was trained on.
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
        lineage.read(init_from)
        try:
            run_folder.open_store_of(init_from)
        except InputError as error:
            raise InputError(f"--init-from {init_from}: {error}") from error


def checkpoints_sha256(init_from: Path | None) -> str:
    """Returns what tells a run's weights from others without loading them; "" without a run."""
    if init_from is None:
        return ""
    sums = sorted(init_from.glob(f"checkpoints/*/{checksums.NAME}"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sums)).hexdigest()


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
    return dataclasses.replace(training, state=dataclasses.replace(training.state, **chosen))


def origin(source: Run) -> dict[str, Any]:
    """Returns what init_from.json keeps: which network it is, and what that was trained on."""
    trained_on = source.lineage.with_store(source.store)
    return {**source.origin, "run": str(source.path.resolve()), **trained_on}
