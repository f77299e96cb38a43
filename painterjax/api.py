"""What painterjax.load returns: a trained style that embeds images in other programs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from painterjax import embed, export, images
from painterjax.errors import InputError
from painterjax.verification import Calibration, read_calibration


@dataclasses.dataclass(frozen=True)
class Style:
    """A trained network, and what its distances mean.

    Attributes:
      path: the run, or the folder that export wrote.
      embedder: the network.
      calibration: from distances to probabilities; None where the run was not evaluated.
    """

    path: Path
    embedder: embed.Embedder
    calibration: Calibration | None

    @property
    def image_size(self) -> int:
        """The side S of the images that the network takes."""
        return self.embedder.image_size

    def embed(self, paintings: Sequence[str | Path | Image.Image] | np.ndarray) -> np.ndarray:
        """Embeds paintings by their Euclidean style: float32 N x D.

        Args:
          paintings: paths or PIL images of any size, which are cropped and resized as prepare does
            it; or a uint8 array N x S x S x 3 of what is ready.

        Raises:
          InputError: there is none, one is no image, or the array has another type or shape.
          OSError: a path cannot be read.
        """
        if isinstance(paintings, str | Path | Image.Image):
            raise InputError(f"embed takes several paintings, as [{paintings}]")
        if not len(paintings):
            raise InputError("there is no painting to embed")
        if isinstance(paintings, np.ndarray):
            return self.embedder.embed(self._checked(paintings))
        length = self.embedder.batch_size
        chunks = [paintings[i : i + length] for i in range(0, len(paintings), length)]
        return np.concatenate([self.embedder.embed(self._decoded(chunk)) for chunk in chunks])

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
        return image_NxSxSxC

    def _decoded(self, paintings: Sequence[str | Path | Image.Image]) -> np.ndarray:
        return np.stack([_decode(painting, self.image_size) for painting in paintings])


def load(path: Path) -> Style:
    """Loads a run's best network, or what painterjax.export wrote."""
    if (path / export.PAPER).exists():
        return Style(path, *export.load(path))
    embedder, origin = embed.of_run(path)
    return Style(path, embedder, read_calibration(path, step=origin["step"]))


def _decode(painting: str | Path | Image.Image, size: int) -> np.ndarray:
    try:
        if isinstance(painting, Image.Image):
            return images.to_square(painting.copy(), size=size)
        return images.decode(Path(painting).read_bytes(), size=size)
    except images.ImageError as error:
        raise InputError(f"{painting}: {error}") from error
