"""An index of embedded paintings on disk, which grows and finds the nearest among millions.

paintings.db       SQLite: the catalog of the paintings by number, and which vectors are valid
vectors-<n>.faiss  the vectors of paintings 0 to n - 1, for FAISS
vectors-<n>.tail   those of the few paintings that were added since, which are searched exactly

FAISS searches exactly for up to ivf.EXACT paintings. Larger indexes use IVF in half precision and
probe enough lists for ivf.RECALL of recall@10, measured whenever FAISS's file is written. Ten
million vectors fit in the memory of one machine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.index import ivf
from painterjax.index.database import Database, IndexedPainting
from painterjax.index.vectors import VectorFiles
from painterjax.metrics import attribution
from painterjax.metrics.attribution import Collection
from painterjax.run.embeddings import ORIGIN, SAME_IMAGE, Vectors
from painterjax.run.load import NETWORK


class Index:
    """The index in a folder; an empty or missing folder is an empty index."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._database = folder, Database(folder)
        self._read()

    def _read(self) -> None:
        self._vectors = VectorFiles(self.folder, self.facts)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def facts(self) -> dict[str, str]:
        """The facts about all vectors, such as `run`, `step` and `network_sha256`."""
        return self._database.facts

    @property
    def origins(self) -> list[dict[str, Any]]:
        """Vectors.origin of each file that was added, in this order."""
        return self._database.origins

    def add(self, vectors: Vectors) -> int:
        """Appends the vectors that are new; a kill leaves the index as it was.

        A painting is not new if one with the same file name and vector is in the index.

        Returns:
          How many were appended.

        Raises:
          InputError: the vectors are of another network than those in the index, or paintings of
            the same folder in the index were changed or removed since.
          OSError: the disk is full.
        """
        with files.claimed(self.folder):
            self._read()  # Another process may have added some since.
            self._check(vectors)
            is_new_N, is_found_I = self._matches(vectors)
            self._check_found(vectors, is_found_I)
            row_M = np.flatnonzero(is_new_N)
            if len(row_M):
                facts = {name: str(vectors.origin[name]) for name in ORIGIN}
                facts |= self._vectors.extend(vectors.emb_NxD[row_M])
                self._database.insert(vectors, row_M.tolist(), facts, first=len(self))
                self._read()
                self._vectors.remove_others()
        return len(row_M)

    def _check(self, vectors: Vectors) -> None:
        if not (facts := self.facts):
            return
        if facts[NETWORK] != (new := vectors.origin[NETWORK]):
            raise InputError(
                f"{self.folder} has vectors of another network ({NETWORK} is {facts[NETWORK]}, that"
                f" of the new ones {new}): embed again, or choose another --index"
            )
        if len({origin.get("squares", 1) for origin in [*self.origins, vectors.origin]}) > 1:
            raise InputError(
                f"{self.folder} has vectors of center squares, and the new ones of wide paintings"
                " are means over several, or the other way round: choose another --index"
            )
        if self._vectors.dim != (dim := vectors.emb_NxD.shape[1]):
            raise InputError(
                f"{self.folder} has vectors of {self._vectors.dim} numbers, the new ones have"
                f" {dim}: choose another --index"
            )

    def _matches(self, vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """Whether each painting is new, and whether each of the index is among them."""
        is_new_N, is_found_I = np.ones(len(vectors.paintings), bool), np.zeros(len(self), bool)
        if not len(self):
            return is_new_N, is_found_I
        names = [painting.file for painting in vectors.paintings]
        for pair_Mx2 in self._database.of_same_name(names, ivf.block_rows(self._vectors.dim)):
            row_M, number_M = pair_Mx2.T
            new_MxD, old_MxD = vectors.emb_NxD[row_M], self._vectors.rows(number_M)
            distance_M = np.linalg.norm(new_MxD - old_MxD, axis=1)
            is_same_M = distance_M <= SAME_IMAGE * np.linalg.norm(new_MxD, axis=1)
            is_new_N[row_M[is_same_M]] = False
            is_found_I[number_M[is_same_M]] = True
        return is_new_N, is_found_I

    def _check_found(self, vectors: Vectors, is_found_I: np.ndarray) -> None:
        """Refuses a folder's vectors if the index has others of it, of pictures that are gone."""
        folder = vectors.origin.get("images")
        known = (origin.get("images") for origin in self.origins) if len(self) else ()
        if folder is None or folder not in known:
            return  # Asking for its paintings would read the whole catalog.
        is_of_folder_I = self._database.of_folder(folder, len(self))
        if len(number_M := np.flatnonzero(is_of_folder_I & ~is_found_I)):
            raise InputError(
                f"{len(number_M)} paintings of {folder} in {self.folder} were changed or removed,"
                f" such as {self.entry(int(number_M[0])).painting.file}: choose another --index"
            )

    def nearest(
        self, emb_D: np.ndarray, count: int, *, among_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distances and numbers of up to `count` paintings, nearest first.

        Args:
          emb_D: a float32 embedding.
          count: how many.
          among_N: whether each painting of the index may be found; None for all.
        """
        return self._vectors.nearest(emb_D, count, among_N)

    def embedding(self, number: int) -> np.ndarray:
        """Returns the embedding of a painting, as the index stores it."""
        return self._vectors.rows(np.array([number]))[0]

    def embeddings(self) -> np.ndarray:
        """Returns all embeddings emb_NxD by number, as the index stores them."""
        return self._vectors.all()

    def entry(self, number: int) -> IndexedPainting:
        """Returns a painting of the index; raises InputError if there is no such number."""
        if not 0 <= number < len(self):
            raise InputError(f"there is no painting {number}: {self.folder} has {len(self)}")
        return self.entries([number])[0]

    def entries(self, numbers: Sequence[int]) -> list[IndexedPainting]:
        """Returns paintings of the index in the order of `numbers`."""
        return self._database.entries(numbers)

    def find(self, **wanted: str) -> np.ndarray:
        """Returns whether each painting has the wanted values of columns, or of `century`."""
        return self._database.find(wanted, len(self))

    def values(self, column: str) -> list[str]:
        """Returns the distinct values of a column, or of `century`, sorted, without ""."""
        return self._database.values(column)

    def collection(self) -> Collection:
        """Returns what attribution needs of the paintings, which are read in blocks."""
        artists, parts, start = self._database.artists(), [], 0
        for emb_MxD in self._vectors.blocks():
            parts.append(attribution.collect(emb_MxD, artists[start : start + len(emb_MxD)]))
            start += len(emb_MxD)
        return attribution.merge(parts)
