"""What a `loss.name` stands for: how tuples are drawn and which scalars they train and log."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from painterjax import losses, sampling
from painterjax.errors import InputError

Scalars = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A way of training.

    Attributes:
      tuple_size: the number T of paintings in a tuple.
      anchors: how many of them are anchors; an epoch has one per painting of the split.
      sample: draws row_BxT from artists, batch_size, seed and index.
      scalars: maps emb_BxTxD and artist_BxT to a dict of scalars; `loss` is to be minimized,
        the others tell how training goes.
    """

    tuple_size: int
    anchors: int
    sample: Callable[..., np.ndarray]
    scalars: Callable[[jax.Array, jax.Array], Scalars]

    def steps_per_epoch(self, paintings: int, batch_size: int) -> int:
        """Returns how many batches an epoch over `paintings` has; the last one is full as well."""
        return -(-paintings // (batch_size * self.anchors))


def build(*, name: str, margin: float, distance: str, paintings_per_artist: int) -> Objective:
    """Returns the objective called `name`, one of OBJECTIVES.

    Args:
      name: `loss.name`.
      margin: the loss's margin m.
      distance: what tuples compare, one of losses.DISTANCES; batch_all takes only euclidean.
      paintings_per_artist: K, the size of batch_all's tuples.
    """
    return OBJECTIVES[name](margin, distance, paintings_per_artist)


def triplet(
    emb_BxTxD: jax.Array, artist_BxT: jax.Array, *, margin: float, distance: str
) -> Scalars:
    """Triplet loss of anchors, positives and negatives."""
    del artist_BxT  # A triplet's roles are its columns.
    between = losses.DISTANCES[distance]
    anchor_BxD, positive_BxD, negative_BxD = jnp.unstack(emb_BxTxD, axis=1)
    loss = losses.triplet(
        between(anchor_BxD, positive_BxD), between(anchor_BxD, negative_BxD), margin=margin
    )
    positive_B = losses.euclidean(anchor_BxD, positive_BxD)
    negative_B = losses.euclidean(anchor_BxD, negative_BxD)
    return {
        "loss": loss.mean(),
        "accuracy": (positive_B < negative_B).mean(),
        "positive_distance": positive_B.mean(),
        "negative_distance": negative_B.mean(),
        "active_fraction": (loss > 0).mean(),
    }


def contrastive(
    emb_BxTxD: jax.Array, artist_BxT: jax.Array, *, margin: float, distance: str
) -> Scalars:
    """Contrastive loss of pairs; a pair is called different beyond half the margin."""
    first_BxD, second_BxD = jnp.unstack(emb_BxTxD, axis=1)
    different_B = artist_BxT[:, 0] != artist_BxT[:, 1]
    distance_B = losses.euclidean(first_BxD, second_BxD)
    trained = losses.DISTANCES[distance](first_BxD, second_BxD)
    loss_B = losses.contrastive(trained, different_B, margin=margin)
    return {
        "loss": loss_B.mean(),
        "accuracy": ((distance_B > margin / 2) == different_B).mean(),
        "positive_distance": losses.masked_mean(distance_B, ~different_B),
        "negative_distance": losses.masked_mean(distance_B, different_B),
        "active_fraction": (loss_B > 0).mean(),
    }


def batch_all(emb_BxTxD: jax.Array, artist_BxT: jax.Array, *, margin: float) -> Scalars:
    """Triplet loss averaged over those of a batch's valid triplets that are not yet apart."""
    emb_NxD, artist_N = emb_BxTxD.reshape(-1, emb_BxTxD.shape[-1]), artist_BxT.reshape(-1)
    distance_NxN = losses.pairwise_euclidean(emb_NxD)
    loss_NxNxN, valid_NxNxN = losses.batch_all(distance_NxN, artist_N, margin=margin)
    same_NxN = artist_N[:, None] == artist_N[None, :]
    other_NxN = ~jnp.eye(len(artist_N), dtype=bool)
    active_NxNxN = valid_NxNxN & (loss_NxNxN > 0)
    return {
        "loss": losses.masked_mean(loss_NxNxN, active_NxNxN),
        "accuracy": losses.masked_mean(loss_NxNxN < margin, valid_NxNxN),
        "positive_distance": losses.masked_mean(distance_NxN, same_NxN & other_NxN),
        "negative_distance": losses.masked_mean(distance_NxN, ~same_NxN),
        "active_fraction": losses.masked_mean(active_NxNxN, valid_NxNxN),
    }


def _triplets(margin: float, distance: str, paintings_per_artist: int) -> Objective:
    del paintings_per_artist
    scalars = functools.partial(triplet, margin=margin, distance=distance)
    return Objective(3, anchors=1, sample=sampling.triplets, scalars=scalars)


def _pairs(margin: float, distance: str, paintings_per_artist: int) -> Objective:
    del paintings_per_artist
    scalars = functools.partial(contrastive, margin=margin, distance=distance)
    return Objective(2, anchors=1, sample=sampling.pairs, scalars=scalars)


def _groups(margin: float, distance: str, paintings_per_artist: int) -> Objective:
    if distance != "euclidean":
        raise InputError(f"loss.distance is {distance!r}, but batch_all takes only 'euclidean'")
    sample = functools.partial(sampling.artists_by_paintings, paintings=paintings_per_artist)
    scalars = functools.partial(batch_all, margin=margin)
    return Objective(
        paintings_per_artist, anchors=paintings_per_artist, sample=sample, scalars=scalars
    )


# What `loss.name` names, and by which of these fixed validation tuples are judged.
OBJECTIVES = {"triplet": _triplets, "contrastive": _pairs, "batch_all": _groups}
VALIDATED_AS = {"triplet": "triplet", "contrastive": "contrastive", "batch_all": "triplet"}
