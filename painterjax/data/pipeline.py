"""The Grain pipeline: from the number of a dispatch to its batches on the device.

Where a split's images live on the device, a batch is row numbers only; elsewhere it brings its
images. Every process draws the row numbers for all devices, which is arithmetic, but gathers the
images of its own devices only.
"""

import dataclasses
import math
from collections.abc import Callable

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from painterjax.common import memory
from painterjax.common.errors import InputError
from painterjax.data import sampling
from painterjax.data.store import Split
from painterjax.distributed import sharding

RESIDENCIES = ("auto", "device", "host")
# With `auto`, images may take this share of the device's free memory; the step needs the rest.
RESIDENT_SHARE = 0.5
HOST_THREADS = 4
# Batches that are ready before a step asks for them have at most these bytes, or are three.
READY_BYTES = 2**30

PlacedBatch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DispatchPlan:
    """Which steps each dispatch runs: up to L, all of one epoch, and none of the first `start`.

    >>> plan = DispatchPlan(num_epochs=2, steps_per_epoch=5, steps_per_dispatch=2)
    >>> [list(plan.steps(dispatch)) for dispatch in plan.dispatches]
    [[1, 2], [3, 4], [5], [6, 7], [8, 9], [10]]
    >>> plan = dataclasses.replace(plan, steps_per_dispatch=4, start=7)
    >>> [list(plan.steps(dispatch)) for dispatch in plan.dispatches]
    [[8, 9], [10]]
    """

    num_epochs: int
    steps_per_epoch: int
    steps_per_dispatch: int
    start: int = 0  # the steps that an earlier start has taken

    @property
    def num_steps(self) -> int:
        """The number of steps of the whole run."""
        return self.num_epochs * self.steps_per_epoch

    @property
    def dispatches(self) -> range:
        """The dispatches that are to be run, counted from the beginning of the first epoch."""
        last = self.num_epochs * self._dispatches_per_epoch
        return range(self.dispatch_after(self.start), last)

    @property
    def _dispatches_per_epoch(self) -> int:
        return -(-self.steps_per_epoch // self.steps_per_dispatch)

    def steps(self, dispatch: int) -> range:
        """Returns the steps of a dispatch; steps count from 1, dispatches from 0."""
        epoch, place = divmod(dispatch, self._dispatches_per_epoch)
        first = epoch * self.steps_per_epoch + place * self.steps_per_dispatch + 1
        last = min(first + self.steps_per_dispatch - 1, (epoch + 1) * self.steps_per_epoch)
        return range(max(first, self.start + 1), last + 1)

    def dispatch_after(self, step: int) -> int:
        """Returns the dispatch that has the next step."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch * self._dispatches_per_epoch + within // self.steps_per_dispatch

    def ends_epoch(self, step: int) -> bool:
        """Returns whether `step` is an epoch's last one."""
        return step % self.steps_per_epoch == 0

    def ends_window(self, step: int, every: int) -> bool:
        """Returns whether `step` is its epoch's last one, or a multiple of `every` within it."""
        return (step % self.steps_per_epoch) % every == 0


@dataclasses.dataclass(frozen=True)
class BatchSource:
    """Draws the batches of a split.

    Attributes:
      split: where the paintings are.
      sample: draws row_BxT from artists, batch_size, seed and index.
      batch_size: tuples in a batch.
      seed: the batch of step i depends on (seed, i) alone.
      resident: whether the images live on the device.
      chunks: how many parts a batch is embedded in.
      plan: which steps a dispatch runs.
      mesh: the devices that share a batch.
    """

    split: Split
    sample: Callable[..., np.ndarray]
    batch_size: int
    seed: int
    resident: bool
    chunks: int
    plan: DispatchPlan
    mesh: Mesh

    def rows(self, artists: sampling.ArtistRows, dispatch: int) -> dict[str, np.ndarray]:
        """Returns row_LxBxT and artist_LxBxT of the L steps of a dispatch.

        A dispatch of fewer than L steps is filled up with copies of its last one.
        """
        steps = self.plan.steps(dispatch)
        row_LxBxT = np.stack(
            [
                self.sample(artists, batch_size=self.batch_size, seed=self.seed, index=step - 1)
                for step in steps
            ]
        )
        padding = self.plan.steps_per_dispatch - len(steps)
        row_LxBxT = np.concatenate([row_LxBxT, *[row_LxBxT[-1:]] * padding])
        return {"row": row_LxBxT.astype(np.int32), "artist": self.split.artist_N[row_LxBxT]}

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shape, type and sharding of each array of a batch on the device."""
        first = self.plan.dispatch_after(self.plan.start)
        batch = self.rows(sampling.artist_rows(self.split.artist_N), first)
        shapes = {key: array.shape for key, array in batch.items()}
        if not self.resident:
            images = self.chunks, batch["row"][0].size // self.chunks
            shapes["image"] = (len(batch["row"]), *images, *self.split.inputs.shape[1:])
        types = {"row": np.int32, "artist": np.int32, "image": self.split.inputs.dtype}
        return {
            key: jax.ShapeDtypeStruct(shape, types[key], sharding=self._shardings[key])
            for key, shape in shapes.items()
        }

    @property
    def _shardings(self) -> dict[str, jax.sharding.Sharding]:
        whole, shared = sharding.replicated(self.mesh), sharding.split_along(self.mesh, 2)
        return {"row": whole, "artist": whole, "image": shared}

    def with_images(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds the images for this process's devices, laid out by `sampling.by_branch`."""
        row_LxGxM = np.stack([sampling.by_branch(rows, self.chunks) for rows in batch["row"]])
        own = sharding.own_part(self.mesh, row_LxGxM.shape[2])
        return {**batch, "image": self.split.inputs[row_LxGxM[:, :, own]]}

    def place(self, batch: dict[str, np.ndarray]) -> PlacedBatch:
        """Copies row numbers and artists to every device, and each image to one of them."""
        return {
            key: jax.make_array_from_process_local_data(self._shardings[key], array)
            for key, array in batch.items()
        }


def batches(source: BatchSource) -> grain.DatasetIterator[PlacedBatch]:
    """Returns an iterator over the batches of the plan's dispatches, prefetched to the device.

    An element is a dict of row_LxBxT, artist_LxBxT and, where the images are not resident,
    image_LxGxMxSxSxC.

    Raises:
      InputError: the split has too few artists or paintings for such a batch.
    """
    artists = sampling.artist_rows(source.split.artist_N)
    dispatches = source.plan.dispatches
    # A batch that cannot be drawn fails here and not in a thread.
    source.rows(artists, dispatches.start)
    data = grain.MapDataset.range(dispatches.start, dispatches.stop)
    data = data.map(lambda dispatch: source.rows(artists, dispatch))
    if not source.resident:
        data = data.map(source.with_images)
    gathered, placed = ready(source)
    read = grain.ReadOptions(num_threads=min(HOST_THREADS, gathered), prefetch_buffer_size=gathered)
    return iter(
        grain.experimental.ThreadPrefetchIterDataset(
            data.to_iter_dataset(read).map(source.place), prefetch_buffer_size=placed
        )
    )


def ready(source: BatchSource) -> tuple[int, int]:
    """Returns how many dispatches' batches wait in memory, and how many on the device.

    One more is on its way from the one to the other.
    """
    own = [math.prod(x.shape) * x.dtype.itemsize for x in source.shapes().values()]
    count = READY_BYTES * jax.process_count() // sum(own)
    placed = 2 if count > 3 else 1
    return min(max(count - placed - 1, 1), 2 * HOST_THREADS), placed


def keep_on_device(residency: str, split: Split) -> bool:
    """Decides whether what steps read goes to the device; `residency` is one of RESIDENCIES.

    Raises:
      InputError: `residency` is "device" and it does not fit.
    """
    needed, free = budget(split)
    if residency == "device" and needed > free:
        raise InputError(
            f"the {_kind(split)} take {needed:,} bytes, the device has {free:,} free:"
            " use --config.data.residency=host"
        )
    return residency == "device" or (residency == "auto" and needed <= RESIDENT_SHARE * free)


def summary(source: BatchSource, *, wanted: int, sampler: str) -> str:
    """Returns lines that say where a training's images are kept, and why its batches are smaller.

    Args:
      source: of the training.
      wanted: `batch_size`.
      sampler: `loss.sampler`.
    """
    needed, free = budget(source.split)
    place = "device" if source.resident else "host"
    text = (
        f"train: {needed / 1e9:.2f} GB of {_kind(source.split)} are kept on the {place}, by"
        f" data.residency; the device had {free / 1e9:.2f} GB free"
    )
    if source.batch_size == wanted:
        return text
    return (
        f"{text}\ntrain: batches of {source.batch_size}, not {wanted}: there are no more {sampler}"
    )


def _kind(split: Split) -> str:
    """What steps read."""
    return "images" if split.feature_NxF is None else "features"


def budget(split: Split) -> tuple[int, int]:
    """Returns the bytes of what steps read of a split, and those that each device has free."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return split.inputs.nbytes, stats["bytes_limit"] - stats["bytes_in_use"]
    return split.inputs.nbytes, memory.free_memory() // jax.local_device_count()
