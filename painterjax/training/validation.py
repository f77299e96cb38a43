"""Validation while training goes on: paintings that training does not see, on fixed tuples."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data.store import Split, Store
from painterjax.distributed import compilation
from painterjax.losses import objectives
from painterjax.losses.objectives import Scalars
from painterjax.metrics import evaluator
from painterjax.model.embedder import Embedder, untrained, untrained_head
from painterjax.training import trainer
from painterjax.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class Validator:
    """What it takes to judge a state.

    Attributes:
      split: the validation split.
      embedder: the network; its weights come from the state.
      scalars: jitted; what is logged of tuples, from emb_BxTxD, artist_BxT and row_BxT.
      row_BxT: the tuples, as many as there are paintings.
      row_Tx3: triplets for the metrics.
      most: paintings that are compared with all.
    """

    split: Split
    embedder: Embedder
    scalars: Callable[[np.ndarray, np.ndarray, np.ndarray], Scalars]
    row_BxT: np.ndarray
    row_Tx3: np.ndarray
    most: int

    def judge(self, state: TrainState, on_batch: Callable[[int], object]) -> dict[str, float]:
        """Returns the scalars of the tuples and the metrics of triplets and retrieval.

        All processes embed and compare together, with all their devices. `on_batch` is called
        after each batch.
        """
        embedder = self.embedder.with_arrays(state.judged_params, state.stats)
        emb_NxD = embedder.embed(self.split.inputs, on_batch)
        artist_N = self.split.artist_N
        scalars = self.scalars(emb_NxD[self.row_BxT], artist_N[self.row_BxT], self.row_BxT)
        figures = evaluator.evaluate_quickly(emb_NxD, artist_N, self.row_Tx3, most=self.most)
        return {**{key: float(value) for key, value in scalars.items()}, **figures}


def prepare(config: Config, store: Store) -> Validator:
    """Draws a store's fixed tuples; raises InputError where its validation split is too small."""
    split = store.splits["val"]
    if split.feature_NxF is None:
        embedder = untrained(config, image_size=store.image_size)
    else:
        embedder = untrained_head(config, features=split.feature_NxF.shape[1])
    name = objectives.validated_as(config.loss.name)
    objective = trainer.objective(config, name)
    # The margin of another loss is no margin of triplets.
    left_out = () if name == config.loss.name else ("loss", "active_fraction")

    @compilation.jit
    def scalars(emb_BxTxD: jax.Array, artist_BxT: jax.Array, row_BxT: jax.Array) -> Scalars:
        found = objective.scalars(emb_BxTxD, artist_BxT, row_BxT, {})
        return {key: value for key, value in found.items() if key not in left_out}

    try:
        return Validator(
            split=split,
            embedder=embedder,
            scalars=scalars,
            row_BxT=evaluator.fixed_tuples(split, objective.sample, count=len(split)),
            row_Tx3=evaluator.fixed_triplets(split, count=config.eval.triplets),
            most=config.eval.max_paintings,
        )
    except InputError as error:
        raise InputError(
            f"{store.path}, split val: {error}, or raise --val-fraction, and prepare it"
            " again into another --output"
        ) from error
