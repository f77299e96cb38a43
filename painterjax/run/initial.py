"""Weights that a training starts from: those of another run, as many as fit."""

import dataclasses
import sys

import jax

from painterjax.common.errors import InputError
from painterjax.distributed import processes, sharding
from painterjax.model.build import array_name, arrays_by_name
from painterjax.run.load import Run
from painterjax.training.trainer import Training


def start_from(training: Training, source: Run) -> Training:
    """Returns a training that starts from the best weights and BatchNorm statistics of a run.

    An array is taken if the run has one of that name and shape; a line lists the others.

    Raises:
      InputError: there is none.
    """
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
