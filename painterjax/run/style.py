"""What painterjax.load returns: a trained style that embeds images in other programs."""

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.metrics.calibration import Calibration
from painterjax.model.embedder import Embedder
from painterjax.run import embed as run_embed
from painterjax.run import exported
from painterjax.run.evaluation import read_calibration

Painting = str | Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class StyleEmbedder:
    """A trained network, and what its distances mean.

    Attributes:
      path: the run, or the folder that export wrote.
      embedder: the network.
      calibration: from distances to probabilities; None where the run was not evaluated.
    """

    path: Path
    embedder: Embedder
    calibration: Calibration | None

    @property
    def image_size(self) -> int:
        """The side S of the images that the network takes."""
        return self.embedder.image_size

    def embed(self, paintings: Iterable[Painting] | np.ndarray) -> np.ndarray:
        """Embeds paintings by their Euclidean style: float32 N x D.

        Args:
          paintings: paths, PIL images, or uint8 arrays H x W x 3, each of any size, which are
            cropped and resized as prepare does it; or one uint8 array N x S x S x 3 of what is
            ready.

        Raises:
          InputError: there is none, or one is missing, no image, or of another type or shape.
        """
        if isinstance(paintings, np.ndarray):
            return self.embedder.embed(self._checked(paintings))
        if isinstance(paintings, str | Path | Image.Image) or not isinstance(paintings, Iterable):
            raise InputError(f"embed takes several paintings, as [{paintings}]")
        left, parts = iter(paintings), []
        while chunk := list(itertools.islice(left, self.embedder.batch_size)):
            image_BxSxSxC = np.stack([_decode(painting, self.image_size) for painting in chunk])
            parts.append(self.embedder.embed(image_BxSxSxC))
        if not parts:
            raise InputError("there is no painting to embed")
        return np.concatenate(parts)

    def probability(self, distance: npt.ArrayLike) -> np.ndarray:
        """Maps Euclidean distances to probabilities of one artist, if one and two are as likely.

        Raises:
          InputError: the run was not evaluated.
        """
        if self.calibration is None:
            raise InputError(f"{self.path} has no calibration: evaluate the run, and export again")
        return self.calibration.probability(distance)

    def _checked(self, image_NxSxSxC: np.ndarray) -> np.ndarray:
        side = self.image_size
        if image_NxSxSxC.dtype != np.uint8 or image_NxSxSxC.shape[1:] != (side, side, 3):
            found = f"{image_NxSxSxC.dtype} {image_NxSxSxC.shape}"
            raise InputError(f"images are {found}, expected uint8 (N, {side}, {side}, 3)")
        if not len(image_NxSxSxC):
            raise InputError("there is no painting to embed")
        return image_NxSxSxC


def load(path: Path) -> StyleEmbedder:
    """Loads a run's best network, or what painterjax.export wrote."""
    if (path / exported.PAPER).exists():
        return StyleEmbedder(path, *exported.load(path))
    embedder, origin = run_embed.of_run(path)
    return StyleEmbedder(path, embedder, read_calibration(path, step=origin["step"]))


def _decode(painting: Painting, size: int) -> np.ndarray:
    try:
        if isinstance(painting, Image.Image):
            return images.to_square(painting.copy(), size=size)
        if isinstance(painting, np.ndarray):
            return images.to_square(_as_image(painting), size=size)
        if isinstance(painting, str | Path):
            return images.decode(images.read(Path(painting)), size=size)
    except images.ImageError as error:
        name = "an array" if isinstance(painting, np.ndarray) else painting
        raise InputError(f"{name}: {error}") from error
    kind = type(painting).__name__
    raise InputError(f"a painting is of type {kind}: must be a path, a PIL image or an array")


def _as_image(image_HxWxC: np.ndarray) -> Image.Image:
    if image_HxWxC.dtype != np.uint8 or image_HxWxC.ndim != 3 or image_HxWxC.shape[2] != 3:
        raise images.ImageError(f"{image_HxWxC.dtype} {image_HxWxC.shape}, not uint8 (H, W, 3)")
    return Image.fromarray(image_HxWxC)
