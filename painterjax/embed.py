"""From images to embeddings, in batches of one fixed shape."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from painterjax import checkpoint, compilation, runfolder, runlog, wiring
from painterjax.step import PureDict, embed_step


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A network with its arrays, ready to embed.

    Attributes:
      step: jitted; maps params, stats and image_BxSxSxC to emb_BxD.
      params, stats: the network's parameters and BatchNorm statistics.
      batch_size: images in a batch.
    """

    step: Callable[[PureDict, PureDict, np.ndarray], jax.Array]
    params: PureDict
    stats: PureDict
    batch_size: int

    def embed(
        self, image_NxSxSxC: np.ndarray, progress: runlog.Progress | None = None
    ) -> np.ndarray:
        """Embeds any number N >= 1 of uint8 images: float32 N x D, on the host."""
        count, parts = len(image_NxSxSxC), []
        for start in range(0, count, self.batch_size):
            # The last batch is filled up with copies of the last image.
            row_B = np.minimum(np.arange(start, start + self.batch_size), count - 1)
            parts.append(np.asarray(self.step(self.params, self.stats, image_NxSxSxC[row_B])))
            if progress is not None:
                progress.advance(min(self.batch_size, count - start))
        return np.concatenate(parts)[:count]


def untrained(config: runfolder.Config, *, image_size: int) -> Embedder:
    """Returns an embedder with the weights that training starts from."""
    network, params, stats = wiring.network(config, image_size=image_size)
    jitted_step = jax.jit(
        functools.partial(embed_step, network=network),
        compiler_options=compilation.options(config.model.dtype),
    )
    return Embedder(jitted_step, params, stats, config.eval.batch_size)


def trained(run: Path, start: Embedder) -> tuple[Embedder, int]:
    """Returns `start` with the weights of a run's best checkpoint, and that checkpoint's step.

    Raises:
      InputError: the run has no checkpoint.
    """
    checkpoints = checkpoint.Checkpoints(run)
    params, stats, step = checkpoints.restore_network(start.params, start.stats)
    checkpoints.close()
    return dataclasses.replace(start, params=params, stats=stats), step
