"""The table of losses, LOSSES: how tuples are drawn, what is minimized and what is logged.

A new loss is a function of a Batch and a row of the table.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.distributed import sharding
from painterjax.losses import batch as batch_losses
from painterjax.losses import tuples as tuple_losses

Scalars = dict[str, jax.Array]
Proxies = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Batch:
    """The embeddings of a batch of tuples, and those of all its paintings, N = B T.

    Attributes:
      emb_BxTxD: the embeddings.
      artist_BxT: the artist of each.
      row_BxT: its number in the split; a painting may be in a batch twice.
      proxies: what the loss learns for each artist, or nothing.
      mesh: the devices, each of which has the rows of its anchors in all tables; or None.
    """

    emb_BxTxD: jax.Array
    artist_BxT: jax.Array
    row_BxT: jax.Array
    proxies: Proxies
    mesh: Mesh | None = None

    @functools.cached_property
    def embeddings(self) -> jax.Array:
        """All embeddings, N x D."""
        return self.emb_BxTxD.reshape(-1, self.emb_BxTxD.shape[-1])

    @functools.cached_property
    def artists(self) -> jax.Array:
        """The artist of each, N."""
        return self.artist_BxT.reshape(-1)

    @functools.cached_property
    def relations(self) -> batch_losses.Relations:
        """Which pairs are positives and which negatives, N x N."""
        found = batch_losses.relations(self.artists, self.row_BxT.reshape(-1))
        return batch_losses.Relations(*(sharding.by_rows(self.mesh, x_NxN) for x_NxN in found))

    @functools.cached_property
    def weights(self) -> jax.Array:
        """The weight of each in a mean in which every painting counts once, N."""
        first_N = batch_losses.first_places(self.row_BxT.reshape(-1))
        first_N = sharding.by_rows(self.mesh, first_N.astype(self.emb_BxTxD.dtype))
        return first_N * (len(first_N) / first_N.sum())  # Exactly 1 where nothing is repeated.

    @functools.cached_property
    def distances(self) -> jax.Array:
        """Euclidean distances, N x N."""
        return sharding.by_rows(self.mesh, batch_losses.pairwise_euclidean(self.embeddings))

    def cosines(self, point_MxD: jax.Array) -> jax.Array:
        """Cosines of the embeddings to points, N x M."""
        return sharding.by_rows(self.mesh, batch_losses.cosines(self.embeddings, point_MxD))


@dataclasses.dataclass(frozen=True)
class Loss:
    """A row of LOSSES.

    Attributes:
      scalars: maps a Batch to a dict of scalars; `loss` is minimized, the others are logged.
      takes: which of `loss.margin`, `loss.distance` and `loss.scale` it takes, as keywords.
      tuple_size: the number of paintings in its tuples; None for an in-batch loss, whose tuples are
        `loss.paintings_per_artist` paintings by one artist, drawn by `loss.sampler`.
      sample: draws tuples of another loss, row_BxT from artists, batch_size, seed and index.
      has_proxies: whether it learns proxy_AxD, a point for each artist.
    """

    scalars: Callable[..., Scalars]
    takes: tuple[str, ...] = ()
    tuple_size: int | None = None
    sample: Callable[..., np.ndarray] | None = None
    has_proxies: bool = False

    @property
    def in_batch(self) -> bool:
        """Whether it compares all paintings of a batch."""
        return self.tuple_size is None


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss with its settings.

    Attributes:
      tuple_size: the number T of paintings in a tuple.
      anchors: how many of them are anchors; an epoch has one per painting of the split.
      sample: draws row_BxT from artists, batch_size, seed and index.
      scalars: maps emb_BxTxD, artist_BxT, row_BxT and proxies to a dict of scalars; `loss` is
        minimized, the others are logged.
      has_proxies: whether it learns proxy_AxD, a point for each artist; else proxies are empty.
      most_tuples: maps artists to the most tuples that a batch can have.
      view_weight: of the loss of a second view of each image; 0 takes no second views.
      scale: what cosines between views are multiplied by.
      mesh: the devices that share the loss; None where one device computes it.
    """

    tuple_size: int
    anchors: int
    sample: Callable[..., np.ndarray]
    scalars: Callable[[jax.Array, jax.Array, jax.Array, Proxies], Scalars]
    has_proxies: bool
    most_tuples: Callable[[sampling.ArtistRows], int]
    view_weight: float = 0.0
    scale: float = 1.0
    mesh: Mesh | None = None

    def with_views(
        self, scalars: Scalars, first_NxD: jax.Array, second_NxD: jax.Array, row_N: jax.Array
    ) -> Scalars:
        """Adds the loss of two views of each image to the scalars of the first views' tuples."""
        cosine_NxN = sharding.by_rows(self.mesh, batch_losses.cosines(first_NxD, second_NxD))
        loss = batch_losses.two_views(cosine_NxN, row_N, scale=self.scale).mean()
        return {**scalars, "loss": scalars["loss"] + self.view_weight * loss, "view_loss": loss}

    def steps_per_epoch(self, paintings: int, batch_size: int) -> int:
        """Returns how many batches an epoch over `paintings` has; the last one is full as well."""
        return -(-paintings // (batch_size * self.anchors))


def build(
    *,
    name: str,
    margin: float,
    distance: str,
    scale: float,
    paintings_per_artist: int,
    sampler: str = "artists",
    mesh: Mesh | None = None,
) -> Objective:
    """Returns the objective of a loss.

    Args:
      name: `loss.name`, a key of LOSSES.
      margin: `loss.margin`, the margin m.
      distance: `loss.distance`, a key of tuple_losses.DISTANCES; in-batch losses take "euclidean".
      scale: `loss.scale`, what cosines are multiplied by.
      paintings_per_artist: K, the size of the tuples of in-batch losses.
      sampler: `loss.sampler`, a key of sampling.SAMPLERS; how those are drawn.
      mesh: the devices that share the loss.
    """
    loss = LOSSES[name]
    settings = {"margin": margin, "distance": distance, "scale": scale}
    taken = {key: settings[key] for key in loss.takes}
    if "distance" not in loss.takes and distance != "euclidean":
        raise InputError(f"loss.distance is {distance!r}, but {name} takes only 'euclidean'")

    def scalars(
        emb_BxTxD: jax.Array, artist_BxT: jax.Array, row_BxT: jax.Array, proxies: Proxies
    ) -> Scalars:
        batch = Batch(emb_BxTxD, artist_BxT, row_BxT, proxies, mesh)
        logged = _of_all_triplets(batch) if loss.in_batch else {}
        return {**loss.scalars(batch, **taken), **logged}

    if loss.tuple_size is not None and loss.sample is not None:
        return Objective(
            loss.tuple_size, 1, loss.sample, scalars, loss.has_proxies, lambda _: sys.maxsize
        )
    drawn = sampling.SAMPLERS[sampler]
    return Objective(
        tuple_size=paintings_per_artist,
        anchors=paintings_per_artist,
        sample=functools.partial(drawn.draw, paintings=paintings_per_artist),
        scalars=scalars,
        has_proxies=loss.has_proxies,
        most_tuples=lambda artists: drawn.most(artists, paintings_per_artist),
    )


def _of_all_triplets(batch: Batch) -> Scalars:
    """Mean distances, and as accuracy the share of the batch's triplets in the right order."""
    positive_NxN, negative_NxN = batch.relations
    scalars = {"negative_distance": tuple_losses.masked_mean(batch.distances, negative_NxN)}
    if batch.artist_BxT.shape[1] > 1:  # Single paintings by each artist have no positive.
        triplets = batch_losses.batch_all(batch.distances, batch.relations, margin=0.0)
        ordered = triplets.ordered_NxN.sum()
        scalars["accuracy"] = tuple_losses.ratio(ordered, triplets.count_NxN.sum())
        scalars["positive_distance"] = tuple_losses.masked_mean(batch.distances, positive_NxN)
    return scalars


def triplet(batch: Batch, *, margin: float, distance: str) -> Scalars:
    """Triplet loss of tuples of an anchor, a positive and a negative."""
    between = tuple_losses.DISTANCES[distance]
    anchor_BxD, positive_BxD, negative_BxD = (batch.emb_BxTxD[:, i] for i in range(3))
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


def contrastive(batch: Batch, *, margin: float, distance: str) -> Scalars:
    """Contrastive loss of pairs; accuracy calls a pair different beyond half the margin."""
    between = tuple_losses.DISTANCES[distance]
    first_BxD, second_BxD = batch.emb_BxTxD[:, 0], batch.emb_BxTxD[:, 1]
    different_B = batch.artist_BxT[:, 0] != batch.artist_BxT[:, 1]
    distance_B = tuple_losses.euclidean(first_BxD, second_BxD)
    loss_B = tuple_losses.contrastive(between(first_BxD, second_BxD), different_B, margin=margin)
    own_B = jax.vmap(between)(first_BxD, second_BxD)  # mean_squared is over the batch otherwise.
    return {
        "loss": loss_B.mean(),
        "accuracy": ((own_B > margin / 2) == different_B).mean(),
        "positive_distance": tuple_losses.masked_mean(distance_B, ~different_B),
        "negative_distance": tuple_losses.masked_mean(distance_B, different_B),
        "active_fraction": (loss_B > 0).mean(),
    }


def batch_all(batch: Batch, *, margin: float, semi_hard: bool = False) -> Scalars:
    """Mean over the active triplets, those whose loss is above 0; the others would dilute it."""
    triplets = batch_losses.batch_all(
        batch.distances, batch.relations, margin=margin, semi_hard=semi_hard
    )
    active = triplets.active_NxN.sum()
    return {
        "loss": tuple_losses.ratio(triplets.loss_NxN.sum(), active),
        "active_fraction": tuple_losses.ratio(active, triplets.count_NxN.sum()),
    }


def batch_hard(batch: Batch, *, margin: float | None = None) -> Scalars:
    """Batch-hard triplet loss; the soft one without a margin."""
    loss_N, valid_N = batch_losses.batch_hard(batch.distances, batch.relations, margin=margin)
    return {
        "loss": tuple_losses.masked_mean(loss_N, valid_N),
        "active_fraction": tuple_losses.masked_mean(loss_N > 0, valid_N),
    }


def supervised_contrastive(batch: Batch, *, scale: float) -> Scalars:
    """Supervised contrastive loss."""
    cosine_NxN = batch.cosines(batch.embeddings)
    loss = batch_losses.supervised_contrastive(cosine_NxN, batch.relations, scale=scale)
    return {"loss": tuple_losses.masked_mean(*loss)}


def multi_similarity(batch: Batch) -> Scalars:
    """Multi-similarity loss, with the constants of its own."""
    cosine_NxN = batch.cosines(batch.embeddings)
    loss_N, valid_N = batch_losses.multi_similarity(cosine_NxN, batch.relations)
    return {
        "loss": tuple_losses.masked_mean(loss_N, valid_N),
        "active_fraction": tuple_losses.masked_mean(loss_N > 0, valid_N),
    }


def cosine_classifier(batch: Batch, *, margin: float, scale: float) -> Scalars:
    """Cross-entropy of naming the artist by the nearest proxy; a repeated painting counts once."""
    cosine_NxA = batch.cosines(batch.proxies["artist"])
    loss_N = batch_losses.cosine_classifier(cosine_NxA, batch.artists, scale=scale, margin=margin)
    named_N = cosine_NxA.argmax(axis=1) == batch.artists
    return {
        "loss": (batch.weights * loss_N).mean(),
        "artist_accuracy": (batch.weights * named_N).mean(),
    }


# What `loss.name` names.
LOSSES = {
    "triplet": Loss(triplet, ("margin", "distance"), tuple_size=3, sample=sampling.triplets),
    "contrastive": Loss(contrastive, ("margin", "distance"), tuple_size=2, sample=sampling.pairs),
    "batch_all": Loss(batch_all, ("margin",)),
    "semi_hard": Loss(functools.partial(batch_all, semi_hard=True), ("margin",)),
    "batch_hard": Loss(batch_hard, ("margin",)),
    "batch_hard_soft": Loss(batch_hard),
    "supervised_contrastive": Loss(supervised_contrastive, ("scale",)),
    "multi_similarity": Loss(multi_similarity),
    "cosine_classifier": Loss(cosine_classifier, ("margin", "scale"), has_proxies=True),
}


def validated_as(name: str) -> str:
    """Returns the loss whose fixed tuples validate `name`: itself if of tuples, or triplet."""
    return "triplet" if LOSSES[name].in_batch else name


# As a share of the embeddings' length. Trainings that learned stayed above 0.15; one that collapsed
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
        " or log 2 = 0.693 with a soft one). Train again in another --workdir with a lower"
        " optimizer.learning_rate, or with a loss over more than the hardest triplets: batch_all,"
        " supervised_contrastive, cosine_classifier; for contrastive raise loss.margin"
    )
