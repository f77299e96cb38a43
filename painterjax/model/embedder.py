"""A network with its arrays, ready to embed images."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from painterjax.common.config import Config
from painterjax.common.progress import Progress
from painterjax.distributed import compilation, processes, sharding
from painterjax.model import trainable
from painterjax.model.build import (
    PureDict,
    build_head,
    build_network,
    embed_step,
    feature_step,
    head_step,
)  # fmt: skip
from painterjax.model.network import StyleNet


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A network with its arrays, ready to embed.

    Attributes:
      network: the network without its arrays.
      step: jitted; maps params, stats and image_BxSxSxC to emb_BxD, each device its share.
      params, stats: the network's parameters and BatchNorm statistics, on every device.
      batch_size: images in a batch, a multiple of the devices.
      image_size: the side S of the images that it takes.
      mesh: all devices of all processes.
    """

    network: nnx.GraphDef[StyleNet]
    step: Callable[[PureDict, PureDict, jax.Array], jax.Array]
    params: PureDict
    stats: PureDict
    batch_size: int
    image_size: int
    mesh: Mesh

    @property
    def arrays(self) -> PureDict:
        """The parameters and statistics as one tree."""
        return {"params": self.params, "stats": self.stats}

    @property
    def dim(self) -> int:
        """The features D of an embedding."""
        shape = (self.batch_size, self.image_size, self.image_size, 3)
        image_BxSxSxC = jax.ShapeDtypeStruct(shape, np.uint8)
        return jax.eval_shape(self.step, self.params, self.stats, image_BxSxSxC).shape[1]

    def with_arrays(self, params: PureDict, stats: PureDict) -> "Embedder":
        """Returns it with these arrays, which may be some of a network's, in place of its own."""
        arrays = trainable.overlay(self.arrays, {"params": params, "stats": stats})
        return dataclasses.replace(self, **arrays)

    def embed(
        self, image_NxSxSxC: np.ndarray, on_batch: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """Embeds any number N >= 1 of uint8 images: float32 N x D, on the host.

        All processes of a training call it together, with the same images. Each reads and embeds
        its devices' share, and all get the whole. `on_batch` is called after each batch with the
        number of its images.
        """
        count, parts = len(image_NxSxSxC), []
        own = sharding.own_part(self.mesh, self.batch_size)
        shares = sharding.split_along(self.mesh, 0)
        for start in range(0, count, self.batch_size):
            # The last batch is filled up with copies of the last image.
            row_B = np.minimum(np.arange(start, start + self.batch_size), count - 1)
            own_images = image_NxSxSxC[row_B[own]]
            image_BxSxSxC = jax.make_array_from_process_local_data(shares, own_images)
            emb_BxD = self.step(self.params, self.stats, image_BxSxSxC)
            # Devices of one process exchange nothing, so that threads may embed at once.
            parts.append(multihost_utils.process_allgather(emb_BxD, tiled=True))
            if on_batch is not None:
                on_batch(min(self.batch_size, count - start))
        return np.concatenate(parts)[:count]


def embed_squares(embedder: Embedder, squares: Sequence[np.ndarray]) -> np.ndarray:
    """Embeds N paintings of which the network sees one square or more: float32 N x D.

    Of several squares it is the direction of their mean, as long as they are on average.

    Args:
      embedder: the network.
      squares: of each painting, uint8 K x S x S x 3.
    """
    count_N = np.array([len(each) for each in squares])
    emb_MxD = embedder.embed(np.concatenate(squares))
    if (count_N == 1).all():
        return emb_MxD
    first_N = np.cumsum(count_N) - count_N
    mean_NxD = np.add.reduceat(emb_MxD, first_N) / count_N[:, None]
    length_M, length_N = (np.linalg.norm(x, axis=1) for x in (emb_MxD, mean_NxD))
    wanted_N = np.add.reduceat(length_M, first_N) / count_N
    scale_N = wanted_N / np.maximum(length_N, np.finfo(np.float32).tiny)
    mean_NxD *= scale_N[:, None]
    return np.where((count_N == 1)[:, None], emb_MxD[first_N], mean_NxD).astype(np.float32)


def untrained(config: Config, *, image_size: int, pretrained: bool = True) -> Embedder:
    """Returns an embedder with the weights that training starts from; see build_network."""
    network, params, stats = build_network(config, image_size=image_size, pretrained=pretrained)
    return _embedder(config, embed_step, network, (params, stats), image_size=image_size)


def feature_reader(config: Config, *, image_size: int) -> Embedder:
    """Returns what maps images to what a config's head takes of its pretrained backbone, N x F."""
    network, params, stats = build_network(config, image_size=image_size)
    return _embedder(config, feature_step, network, (params, stats), image_size=image_size)


def untrained_head(config: Config, *, features: int) -> Embedder:
    """Returns what maps features to embeddings, with the weights that training starts from."""
    network, params, stats = build_head(config, features=features)
    return _embedder(config, head_step, network, (params, stats), image_size=0)


def _embedder(
    config: Config, step: Callable[..., jax.Array], network: Any, arrays: Any, *, image_size: int
) -> Embedder:
    mesh = sharding.of_all_devices()
    params, stats = sharding.replicate(mesh, arrays)
    jitted_step = compilation.jit(
        functools.partial(step, network=network), out_shardings=sharding.split_along(mesh, 0)
    )
    batch_size = config.eval.batch_size * mesh.size
    return Embedder(network, jitted_step, params, stats, batch_size, image_size, mesh)


def head_alone(config: Config, embedder: Embedder, *, features: int) -> Embedder:
    """Returns what maps features to the embeddings of a whole network."""
    params = {"head": embedder.params["head"]}
    return dataclasses.replace(untrained_head(config, features=features), params=params)


def embed_together(embedder: Embedder, input_NxX: np.ndarray, label: str) -> np.ndarray:
    """Embeds in all processes of a training together; the writer shows the progress."""
    if not processes.is_writer():
        return embedder.embed(input_NxX)
    with Progress(label, total=len(input_NxX), unit="painting") as progress:
        return embedder.embed(input_NxX, progress.advance)


def embed_resumably(
    embedder: Embedder, input_NxX: np.ndarray, path: Path, progress: Progress
) -> np.ndarray:
    """Appends the vectors that `path` lacks, a batch at a time; returns all."""
    row_bytes, length = 4 * embedder.dim, embedder.batch_size
    with open(path, "ab") as file:
        done = file.tell() // row_bytes // length * length
        file.truncate(done * row_bytes)
        progress.advance(done)
        for start in range(done, len(input_NxX), length):
            input_BxX = input_NxX[start : start + length]
            file.write(embedder.embed(input_BxX, progress.advance).tobytes())
            file.flush()
    return np.memmap(path, np.float32, "r").reshape(-1, embedder.dim)
