"""The vectors of an index on disk: a file for FAISS, and a tail of those that were added since.

vectors-<n>.faiss  the vectors of paintings 0 to n - 1, for FAISS (https://faiss.ai)
vectors-<n>.tail   those of the paintings from n on, as rows of float32

The tail, which is searched exactly, lets an index grow by a few vectors without writing the large
file again. Beyond SHARE of that file both become one file. The index's facts say which file is
valid, and `tail`, how many rows of its tail are: bytes behind these are of a process that was
killed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from painterjax.common import files
from painterjax.common.errors import InputError
from painterjax.index import ivf

SHARE = 0.1  # of FAISS's vectors that the tail has at most


class VectorFiles:
    """The vectors that an index's facts name; files are mapped, so that only what is used is read.

    Without facts there are none.

    Raises:
      InputError: a file is missing or damaged.
    """

    def __init__(self, folder: Path, facts: dict[str, str]) -> None:
        self._folder, self._facts = folder, facts
        self._faiss: Any = None
        self._tail_MxD = np.empty((0, 0), np.float32)
        if facts:
            self._path = folder / facts["vectors"]
            self._tail_path = self._path.with_suffix(".tail")
            self._faiss = self._map_faiss()
            self._check_facts()
            self._tail_MxD = self._map_tail()

    def _map_faiss(self) -> Any:
        try:
            return faiss.read_index(str(self._path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise InputError(f"{self._path} cannot be read: build the index again") from error

    def _check_facts(self) -> None:
        needed = ("probes", "trained") if self._is_ivf else ()
        facts = {"tail": "0", **self._facts}
        if wrong := [name for name in ("tail", *needed) if not facts.get(name, "").isdecimal()]:
            raise InputError(
                f"{self._folder} lacks the facts {', '.join(wrong)}: build the index again"
            )
        if self._is_ivf:
            self._faiss.nprobe = int(facts["probes"])

    def _map_tail(self) -> np.ndarray:
        shape = (int(self._facts.get("tail", 0)), self.dim)
        if not shape[0]:
            return np.empty(shape, np.float32)
        try:
            return np.memmap(self._tail_path, np.float32, "r", shape=shape)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._tail_path} does not have its {shape[0]} vectors: build the index again"
            ) from error

    @property
    def _is_ivf(self) -> bool:
        return isinstance(self._faiss, faiss.IndexIVF)

    @property
    def _first(self) -> int:
        """The number of the first painting in the tail."""
        return 0 if self._faiss is None else self._faiss.ntotal

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self._faiss.d

    def __len__(self) -> int:
        return self._first + len(self._tail_MxD)

    def extend(self, emb_NxD: np.ndarray) -> dict[str, str]:
        """Writes more vectors behind these; they are valid once the index has the returned facts.

        Raises:
          OSError: the disk is full.
        """
        tail = len(self._tail_MxD) + len(emb_NxD)
        if tail <= SHARE * self._first:
            files.append(self._tail_path, emb_NxD.tobytes(), behind=self._tail_MxD.nbytes)
            return {"tail": str(tail)}
        old = None
        if self._faiss is not None:
            old = faiss.read_index(str(self._path))  # In memory, where it can grow.
            emb_NxD = np.concatenate([self._tail_MxD, emb_NxD])
        extended, facts = ivf.extend(old, emb_NxD, self._facts)
        name = f"vectors-{extended.ntotal}.faiss"
        self._write(extended, name)
        return {**facts, "vectors": name, "tail": "0"}

    def _write(self, extended: Any, name: str) -> None:
        self.remove_others()  # The disk may be almost full.
        with files.replacing(self._folder / name) as temporary:
            try:
                faiss.write_index(extended, str(temporary))
            except RuntimeError as error:
                raise OSError(f"{self._folder / name} cannot be written: {error}") from error

    def remove_others(self) -> None:
        """Removes other files of vectors: older ones, and those of killed processes."""
        own = {self._path, self._tail_path} if self._facts else set()
        for pattern in ("vectors-*.faiss", "vectors-*.faiss.*.tmp", "vectors-*.tail"):
            for path in {*self._folder.glob(pattern)} - own:
                path.unlink(missing_ok=True)

    def nearest(
        self, emb_D: np.ndarray, count: int, among_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the distances and numbers of up to `count` vectors, nearest first.

        Args:
          emb_D: a float32 embedding.
          count: how many.
          among_N: whether each vector may be found; None for all.
        """
        count, first = min(count, len(self)), self._first
        among = (None, None) if among_N is None else (among_N[:first], among_N[first:])
        of_faiss = self._nearest_of_faiss(emb_D, count, among[0])
        of_tail = self._nearest_of_tail(emb_D, count, among[1])
        square_R, number_R = (np.concatenate(pair) for pair in zip(of_faiss, of_tail, strict=True))
        nearest_R = np.argsort(square_R, kind="stable")[:count]
        return np.sqrt(np.maximum(square_R[nearest_R], 0)), number_R[nearest_R]

    def _nearest_of_faiss(
        self, emb_D: np.ndarray, count: int, among_N: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and numbers."""
        parameters = None
        if among_N is not None:
            bitmap: Any = faiss.IDSelectorBitmap
            kind: Any = faiss.SearchParametersIVF if self._is_ivf else faiss.SearchParameters
            parameters = kind(sel=bitmap(np.packbits(among_N, bitorder="little")))
            # The selected paintings may lie in any list, and those left out, such as an artist's
            # own, may fill the nearest lists. All lists take 0.2 s for ten million vectors.
            if self._is_ivf:
                parameters.nprobe = self._faiss.nlist
        square_1xR, number_1xR = self._faiss.search(emb_D[None], count, params=parameters)
        found_R = number_1xR[0] >= 0
        return square_1xR[0][found_R], number_1xR[0][found_R]

    def _nearest_of_tail(
        self, emb_D: np.ndarray, count: int, among_M: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and numbers."""
        row_M, emb_MxD = np.arange(len(self._tail_MxD)), self._tail_MxD
        if among_M is not None:
            row_M, emb_MxD = row_M[among_M], emb_MxD[among_M]
        square_1xR, place_1xR = faiss.knn(emb_D[None], emb_MxD, min(count, len(row_M)))
        return square_1xR[0], self._first + row_M[place_1xR[0]]

    def rows(self, number_M: np.ndarray) -> np.ndarray:
        """Returns vectors by number, as they are stored."""
        if self._is_ivf:
            self._faiss.make_direct_map()
        emb_MxD = np.empty((len(number_M), self.dim), np.float32)
        is_tail_M = number_M >= self._first
        emb_MxD[~is_tail_M] = self._faiss.reconstruct_batch(number_M[~is_tail_M])
        emb_MxD[is_tail_M] = self._tail_MxD[number_M[is_tail_M] - self._first]
        return emb_MxD

    def all(self) -> np.ndarray:
        """Returns all vectors in order, as they are stored."""
        emb_NxD = np.empty((len(self), self.dim), np.float32)
        self._faiss.reconstruct_n(0, self._first, emb_NxD[: self._first])
        emb_NxD[self._first :] = self._tail_MxD
        return emb_NxD

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields all vectors in order, as they are stored."""
        yield from ivf.blocks(self._faiss)
        rows = ivf.block_rows(self.dim)
        for start in range(0, len(self._tail_MxD), rows):
            yield self._tail_MxD[start : start + rows]
