"""What a `loss.name` stands for: how tuples are drawn and which scalars they train and log."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.losses import batch as batch_losses
from painterjax.losses import tuples as tuple_losses

Scalars = dict[str, jax.Array]
Proxies = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A way of training.

    Attributes:
      tuple_size: the number T of paintings in a tuple.
      anchors: how many of them are anchors; an epoch has one per painting of the split.
      sample: draws row_BxT from artists, batch_size, seed and index.
      scalars: maps emb_BxTxD, artist_BxT and proxies to a dict of scalars; `loss` is to be
        minimized, the others tell how training goes.
      has_proxies: whether it learns proxy_AxD, a point for each artist; else proxies are empty.
    """

    tuple_size: int
    anchors: int
    sample: Callable[..., np.ndarray]
    scalars: Callable[[jax.Array, jax.Array, Proxies], Scalars]
    has_proxies: bool = False

    def steps_per_epoch(self, paintings: int, batch_size: int) -> int:
        """Returns how many batches an epoch over `paintings` has; the last one is full as well."""
        return -(-paintings // (batch_size * self.anchors))


def build(
    *, name: str, margin: float, distance: str, scale: float, paintings_per_artist: int
) -> Objective:
    """Returns the objective called `name`, one of NAMES.

    Args:
      name: `loss.name`.
      margin: the loss's margin m.
      distance: what tuples compare, one of tuple_losses.DISTANCES; batches take only euclidean.
      scale: what cosines are multiplied by.
      paintings_per_artist: K, the size of the tuples of in-batch losses.
    """
    if name in TUPLE_LOSSES:
        tuple_size, sample, tuple_scalars = TUPLE_LOSSES[name]
        scalars = functools.partial(tuple_scalars, margin=margin, distance=distance)
        return Objective(tuple_size, anchors=1, sample=sample, scalars=scalars)
    if distance != "euclidean":
        raise InputError(f"loss.distance is {distance!r}, but {name} takes only 'euclidean'")
    loss = functools.partial(BATCH_LOSSES[name], margin=margin, scale=scale)
    return Objective(
        tuple_size=paintings_per_artist,
        anchors=paintings_per_artist,
        sample=functools.partial(sampling.artists_by_paintings, paintings=paintings_per_artist),
        scalars=functools.partial(in_batch, loss=loss),
        has_proxies=name in WITH_PROXIES,
    )


def triplet(
    emb_BxTxD: jax.Array, artist_BxT: jax.Array, proxies: Proxies, *, margin: float, distance: str
) -> Scalars:
    """Triplet loss of anchors, positives and negatives."""
    del artist_BxT, proxies  # A triplet's roles are its columns.
    between = tuple_losses.DISTANCES[distance]
    anchor_BxD, positive_BxD, negative_BxD = (emb_BxTxD[:, i] for i in range(3))
    loss = tuple_losses.triplet(
        between(anchor_BxD, positive_BxD), between(anchor_BxD, negative_BxD), margin=margin
    )
    positive_B = tuple_losses.euclidean(anchor_BxD, positive_BxD)
    negative_B = tuple_losses.euclidean(anchor_BxD, negative_BxD)
    return {
        "loss": loss.mean(),
        "accuracy": (positive_B < negative_B).mean(),
        "positive_distance": positive_B.mean(),
        "negative_distance": negative_B.mean(),
        "active_fraction": (loss > 0).mean(),
    }


def contrastive(
    emb_BxTxD: jax.Array, artist_BxT: jax.Array, proxies: Proxies, *, margin: float, distance: str
) -> Scalars:
    """Contrastive loss of pairs; a pair is called different beyond half the margin."""
    del proxies
    between = tuple_losses.DISTANCES[distance]
    first_BxD, second_BxD = emb_BxTxD[:, 0], emb_BxTxD[:, 1]
    different_B = artist_BxT[:, 0] != artist_BxT[:, 1]
    distance_B = tuple_losses.euclidean(first_BxD, second_BxD)
    loss_B = tuple_losses.contrastive(between(first_BxD, second_BxD), different_B, margin=margin)
    own_B = jax.vmap(between)(first_BxD, second_BxD)  # Each pair's, on the margin's scale.
    return {
        "loss": loss_B.mean(),
        "accuracy": ((own_B > margin / 2) == different_B).mean(),
        "positive_distance": tuple_losses.masked_mean(distance_B, ~different_B),
        "negative_distance": tuple_losses.masked_mean(distance_B, different_B),
        "active_fraction": (loss_B > 0).mean(),
    }


@dataclasses.dataclass(frozen=True)
class _Batch:
    """What in-batch losses take: all embeddings of a batch, and what they are compared with."""

    emb_NxD: jax.Array
    artist_N: jax.Array
    distance_NxN: jax.Array
    proxies: Proxies


def in_batch(
    emb_BxTxD: jax.Array,
    artist_BxT: jax.Array,
    proxies: Proxies,
    *,
    loss: Callable[[_Batch], Scalars],
) -> Scalars:
    """A loss over all paintings of a batch; accuracy counts its triplets in the right order."""
    emb_NxD, artist_N = emb_BxTxD.reshape(-1, emb_BxTxD.shape[-1]), artist_BxT.reshape(-1)
    distance_NxN = batch_losses.pairwise_euclidean(emb_NxD)
    positive_NxN, negative_NxN = batch_losses.relations(artist_N)
    scalars = loss(_Batch(emb_NxD, artist_N, distance_NxN, proxies))
    scalars["negative_distance"] = tuple_losses.masked_mean(distance_NxN, negative_NxN)
    if artist_BxT.shape[1] > 1:  # Of single paintings by each artist none has a positive.
        triplets = batch_losses.batch_all(distance_NxN, artist_N, margin=0.0)
        scalars["accuracy"] = tuple_losses.ratio(
            triplets.ordered_NxN.sum(), triplets.count_NxN.sum()
        )
        scalars["positive_distance"] = tuple_losses.masked_mean(distance_NxN, positive_NxN)
    return scalars


def _batch_all(batch: _Batch, *, margin: float, scale: float, semi_hard: bool = False) -> Scalars:
    """Mean over the triplets that are not yet apart; the others would only dilute it."""
    del scale
    triplets = batch_losses.batch_all(
        batch.distance_NxN, batch.artist_N, margin=margin, semi_hard=semi_hard
    )
    active = triplets.active_NxN.sum()
    return {
        "loss": tuple_losses.ratio(triplets.loss_NxN.sum(), active),
        "active_fraction": tuple_losses.ratio(active, triplets.count_NxN.sum()),
    }


def _batch_hard(batch: _Batch, *, margin: float, scale: float, soft: bool = False) -> Scalars:
    del scale
    loss_N, valid_N = batch_losses.batch_hard(
        batch.distance_NxN, batch.artist_N, margin=None if soft else margin
    )
    return {
        "loss": tuple_losses.masked_mean(loss_N, valid_N),
        "active_fraction": tuple_losses.masked_mean(loss_N > 0, valid_N),
    }


def _supervised_contrastive(batch: _Batch, *, margin: float, scale: float) -> Scalars:
    del margin
    cosine_NxN = batch_losses.cosines(batch.emb_NxD, batch.emb_NxD)
    loss = batch_losses.supervised_contrastive(cosine_NxN, batch.artist_N, scale=scale)
    return {"loss": tuple_losses.masked_mean(*loss)}


def _multi_similarity(batch: _Batch, *, margin: float, scale: float) -> Scalars:
    del margin, scale  # It has constants of its own.
    cosine_NxN = batch_losses.cosines(batch.emb_NxD, batch.emb_NxD)
    loss_N, valid_N = batch_losses.multi_similarity(cosine_NxN, batch.artist_N)
    return {
        "loss": tuple_losses.masked_mean(loss_N, valid_N),
        "active_fraction": tuple_losses.masked_mean(loss_N > 0, valid_N),
    }


def _cosine_classifier(batch: _Batch, *, margin: float, scale: float) -> Scalars:
    cosine_NxA = batch_losses.cosines(batch.emb_NxD, batch.proxies["artist"])
    loss_N = batch_losses.cosine_classifier(cosine_NxA, batch.artist_N, scale=scale, margin=margin)
    named_N = cosine_NxA.argmax(axis=1) == batch.artist_N
    return {"loss": loss_N.mean(), "artist_accuracy": named_N.mean()}


# By name: paintings in a tuple, their sampler, and their scalars.
TUPLE_LOSSES = {
    "triplet": (3, sampling.triplets, triplet),
    "contrastive": (2, sampling.pairs, contrastive),
}
# Over batches of P artists with K paintings each.
BATCH_LOSSES: dict[str, Callable[..., Scalars]] = {
    "batch_all": _batch_all,
    "semi_hard": functools.partial(_batch_all, semi_hard=True),
    "batch_hard": _batch_hard,
    "batch_hard_soft": functools.partial(_batch_hard, soft=True),
    "supervised_contrastive": _supervised_contrastive,
    "multi_similarity": _multi_similarity,
    "cosine_classifier": _cosine_classifier,
}
WITH_PROXIES = ("cosine_classifier",)
WITHOUT_MARGIN = ("batch_hard_soft", "supervised_contrastive", "multi_similarity")
NAMES = (*TUPLE_LOSSES, *BATCH_LOSSES)


# Of the embeddings' length. Trainings that learned stayed above 0.15; one that collapsed
# (batch_hard at a learning rate of 1e-3) fell below 0.03 within ten steps, and to 0.0015 in 100.
COLLAPSED_SPREAD = 0.03


def collapse_warning(values: dict[str, float]) -> str | None:
    """Returns what to do where a step's scalars show that all embeddings become one point."""
    spread, norm = values["embedding_spread"], values["embedding_norm"]
    if spread > COLLAPSED_SPREAD * norm:
        return None
    return (
        f"the embedding is collapsing to a point: its spread is {spread:.3g} at a length of"
        f" {norm:.3g}, the loss {values['loss']:.3g} (equal embeddings cost a triplet the margin,"
        " or log 2 = 0.693 with a soft one). Begin again in another --workdir with a lower"
        " optimizer.learning_rate, or with a loss that does not dwell on the hardest: batch_all,"
        " supervised_contrastive, cosine_classifier; for contrastive raise loss.margin"
    )


def validated_as(name: str) -> str:
    """Returns the loss by whose fixed tuples `name` is validated: its own, or triplets."""
    return name if name in TUPLE_LOSSES else "triplet"
