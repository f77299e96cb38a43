"""Validation while training goes on: paintings that training does not see, on fixed tuples."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data.store import Split, Store
from painterjax.distributed import sharding
from painterjax.losses import objectives
from painterjax.metrics import evaluator
from painterjax.model.embedder import Embedder, untrained
from painterjax.training import trainer
from painterjax.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class Validator:
    """What it takes to judge a state.

    Attributes:
      split: the validation split.
      embedder: the network; its weights come from the state.
      objective: gives the loss, and what is logged beside it, of the tuples.
      row_BxT: tuples for the objective, as many as there are paintings.
      row_Tx3: triplets for the metrics.
    """

    split: Split
    embedder: Embedder
    objective: objectives.Objective
    row_BxT: np.ndarray
    row_Tx3: np.ndarray

    def judge(self, state: TrainState, on_batch: Callable[[int], object]) -> dict[str, float]:
        """Returns the objective's scalars and the metrics of triplets and retrieval.

        Each process computes them on its own first device; `on_batch` is called after each batch.
        """
        params, stats = sharding.local((state.params, state.stats))
        embedder = dataclasses.replace(self.embedder, params=params, stats=stats)
        emb_NxD = embedder.embed(self.split.image_NxSxSxC, on_batch)
        artist_N = self.split.artist_N
        scalars = self.objective.scalars(
            jnp.asarray(emb_NxD[self.row_BxT]), jnp.asarray(artist_N[self.row_BxT]), {}
        )
        figures = evaluator.evaluate_quickly(emb_NxD, artist_N, self.row_Tx3)
        return {**{key: float(value) for key, value in scalars.items()}, **figures}


def prepare(config: Config, store: Store) -> Validator:
    """Draws a store's fixed tuples; raises InputError where its validation split is too small."""
    split = store.splits["val"]
    embedder = untrained(config, image_size=store.image_size)
    objective = trainer.objective(config, objectives.validated_as(config.loss.name))
    try:
        return Validator(
            split=split,
            embedder=embedder,
            objective=objective,
            row_BxT=evaluator.fixed_tuples(split, objective.sample, count=len(split)),
            row_Tx3=evaluator.fixed_triplets(split, count=config.eval.triplets),
        )
    except InputError as error:
        raise InputError(f"{store.path}, split val: {error}, or raise --val-fraction") from error
