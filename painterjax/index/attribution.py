"""Who painted a picture, among the artists of an index."""

import functools
from collections.abc import Sequence

import numpy as np

from painterjax.index.database import IndexedPainting
from painterjax.index.index import Index
from painterjax.metrics.attribution import SOMEONE_ELSE, Collection
from painterjax.run import attribution
from painterjax.run.attribution import Answer, Attributed
from painterjax.run.embeddings import SAME_IMAGE
from painterjax.run.load import Run

COPIES = 16  # of one picture that an index can have
BLOCK = 1024  # paintings that are asked about at once


class Attributor:
    """Answers who painted pictures, by all paintings of an index."""

    def __init__(self, run: Run, index: Index) -> None:
        self._model, self._index = run.needed_attribution(), index

    @functools.cached_property
    def collection(self) -> Collection:
        """The artists of the index."""
        return self._index.collection()

    def answers(self, emb_QxD: np.ndarray, *, someone_else: float = SOMEONE_ELSE) -> list[Answer]:
        """Returns who painted each picture; one that the index has is no evidence for itself."""
        own = [self._own_artists(emb_D) for emb_D in emb_QxD]
        return attribution.answers(
            self._model, emb_QxD, self.collection, own, someone_else=someone_else
        )

    def of_index(
        self, *, someone_else: float = SOMEONE_ELSE
    ) -> list[tuple[IndexedPainting, Attributed]]:
        """Returns who painted each painting of the index whose artist is known.

        Each is asked about in view of all others. Those whose artist is least likely come first.
        """
        found = []
        for start in range(0, len(self._index), BLOCK):
            numbers = range(start, min(start + BLOCK, len(self._index)))
            known = [entry for entry in self._index.entries(numbers) if entry.painting.artist]
            if not known:
                continue
            answers = attribution.answers(
                self._model,
                np.stack([self._index.embedding(entry.id) for entry in known]),
                self.collection,
                [[entry.painting.artist] for entry in known],
                someone_else=someone_else,
            )
            found += [
                (entry, Attributed.of(entry.painting.file, entry.painting.artist, answer))
                for entry, answer in zip(known, answers, strict=True)
            ]
        return sorted(found, key=lambda pair: pair[1].probability or 0.0)

    def _own_artists(self, emb_D: np.ndarray) -> Sequence[str]:
        """The artist of each painting with the same vector, as equal pixels have."""
        distance_R, number_R = self._index.nearest(emb_D, COPIES)
        is_same_R = distance_R <= SAME_IMAGE * np.linalg.norm(emb_D)
        entries = self._index.entries(number_R[is_same_R].tolist()) if is_same_R.any() else []
        return [entry.painting.artist for entry in entries]
