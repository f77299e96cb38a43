"""A network with its arrays, ready to embed images."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from painterjax.common.config import Config
from painterjax.distributed import compilation, sharding
from painterjax.model.build import PureDict, build_network, embed_step
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


def untrained(config: Config, *, image_size: int) -> Embedder:
    """Returns an embedder with the weights that training starts from."""
    network, params, stats = build_network(config, image_size=image_size)
    mesh = sharding.of_all_devices()
    params, stats = sharding.replicate(mesh, (params, stats))
    jitted_step = compilation.jit(
        functools.partial(embed_step, network=network),
        out_shardings=sharding.split_along(mesh, 0),
    )
    batch_size = config.eval.batch_size * mesh.size
    return Embedder(network, jitted_step, params, stats, batch_size, image_size, mesh)
