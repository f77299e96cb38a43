"""The Grain pipeline: from the number of a step to its batch on the device.

Row numbers are all that must travel where a split's images live on the device. Where they do not,
a batch brings its own images, and its row numbers count within these.
"""

import dataclasses
import os
from typing import Any

import grain
import jax
import numpy as np

from painterjax import sampling
from painterjax.errors import InputError
from painterjax.objectives import Objective
from painterjax.store import Split

RESIDENCIES = ("auto", "device", "host")
# With `auto`, images may take this share of the device's free memory; the step needs the rest.
RESIDENT_SHARE = 0.5
HOST_THREADS = 4

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Source:
    """Draws the batches of a split.

    Attributes:
      split: where the paintings are.
      objective: how tuples are drawn.
      batch_size: tuples in a batch.
      seed: of the draws; batch i depends on (seed, i) alone.
      resident: whether the images live on the device.
    """

    split: Split
    objective: Objective
    batch_size: int
    seed: int
    resident: bool

    def rows(self, artists: sampling.ArtistRows, index: int) -> dict[str, np.ndarray]:
        """Returns batch `index`: row_BxT and artist_BxT."""
        row_BxT = self.objective.sample(
            artists, batch_size=self.batch_size, seed=self.seed, index=index
        )
        return {"row": row_BxT.astype(np.int32), "artist": self.split.artist_N[row_BxT]}

    def with_images(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds the batch's own images and makes its rows count within them."""
        row_BxT = batch["row"]
        image_MxSxSxC = self.split.image_NxSxSxC[row_BxT.reshape(-1)]
        own_row_BxT = np.arange(row_BxT.size, dtype=np.int32).reshape(row_BxT.shape)
        return {**batch, "row": own_row_BxT, "image": image_MxSxSxC}


def batches(source: Source, *, num_batches: int) -> grain.DatasetIterator[Batch]:
    """Returns an iterator over batches 0 to num_batches - 1, prefetched to the device.

    A batch is a dict of row_BxT, artist_BxT and, where the images are not resident, image_MxSxSxC.
    Its state is {"next_index": number of batches taken}.

    Raises:
      InputError: the split has too few artists or paintings for such a batch.
    """
    artists = sampling.artist_rows(source.split.artist_N)
    source.rows(artists, 0)  # What cannot be drawn fails here and not in a thread.
    data = grain.MapDataset.range(num_batches).map(lambda index: source.rows(artists, index))
    if not source.resident:
        data = data.map(source.with_images)
    read = grain.ReadOptions(num_threads=HOST_THREADS, prefetch_buffer_size=2 * HOST_THREADS)
    return iter(grain.experimental.device_put(data.to_iter_dataset(read), jax.devices()[0]))


def keep_on_device(residency: str, split: Split) -> bool:
    """Decides whether a split's images go to the device; `residency` is one of RESIDENCIES.

    Raises:
      InputError: `residency` is "device" and the images do not fit.
    """
    free, needed = _free_bytes(jax.devices()[0]), split.image_NxSxSxC.nbytes
    if residency == "device" and needed > free:
        raise InputError(
            f"the images take {needed:,} bytes, the device has {free:,} free:"
            " use --config.data.residency=host"
        )
    return residency == "device" or (residency == "auto" and needed <= RESIDENT_SHARE * free)


def _free_bytes(device: Any) -> int:
    stats = device.memory_stats()
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
