"""What painterjax.load returns: a trained network that embeds images in other programs."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from painterjax.common.errors import InputError
from painterjax.data import catalog, images
from painterjax.metrics.attribution import SOMEONE_ELSE, Attribution, collect
from painterjax.metrics.calibration import Calibration
from painterjax.model import likeness
from painterjax.model.embedder import Embedder, embed_squares
from painterjax.run import attribution, embeddings, exported
from painterjax.run.attribution import Answer
from painterjax.run.embed import split_embeddings
from painterjax.run.load import Run, check_same_network
from painterjax.run.untrained import open_run

PaintingLike = str | Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class StyleEmbedder:
    """A trained network, and the probabilities that its distances stand for.

    Attributes:
      path: the run, or the folder that painterjax.export wrote.
      embedder: the network.
      calibration: from distances to probabilities; None where the run was not evaluated.
      attribution: from embeddings to probabilities of artists; None where it was not evaluated.
      origin: which network it is, and the decoding of the images that it was trained on.
      run: None for what painterjax.export wrote.
    """

    path: Path
    embedder: Embedder
    calibration: Calibration | None
    attribution: Attribution | None
    origin: Mapping[str, Any]
    run: Run | None = None

    @property
    def image_size(self) -> int:
        """The side S of the images that the network takes."""
        return self.embedder.image_size

    def embed(self, paintings: Iterable[PaintingLike] | np.ndarray) -> np.ndarray:
        """Embeds paintings: float32 N x D; similar styles have a small Euclidean distance.

        Args:
          paintings: paths, PIL images, or uint8 arrays H x W x 3, each of any size, which are
            cropped and resized as `prepare` does it, wide ones to several squares, whose mean is
            their embedding; or one uint8 array N x S x S x 3 of images that are cropped and
            resized already.

        Raises:
          InputError: there is no painting, or one is missing, not an image, or of a wrong type or
            shape; or the network was trained on images that were decoded in another way.
        """
        return self._embed(paintings, images.MOST_SQUARES)

    def _embed(self, paintings: Iterable[PaintingLike] | np.ndarray, squares: int) -> np.ndarray:
        if isinstance(paintings, np.ndarray):
            return self.embedder.embed(self._checked(paintings))
        if isinstance(paintings, str | Path | Image.Image) or not isinstance(paintings, Iterable):
            raise InputError(f"embed takes a list of paintings: pass [{paintings}]")
        images.check_decoding(self.path, self.origin["decoding"])
        remaining, parts = iter(paintings), []
        while chunk := list(itertools.islice(remaining, self.embedder.batch_size)):
            decoded = [_decode(painting, self.image_size, squares) for painting in chunk]
            parts.append(embed_squares(self.embedder, decoded))
        if not parts:
            raise InputError("no painting to embed: pass at least one")
        return np.concatenate(parts)

    def explain(self, first: PaintingLike, second: PaintingLike) -> tuple[float, np.ndarray]:
        """Returns how alike two paintings are, and where: see painterjax.model.likeness.

        Args:
          first, second: paths, PIL images or uint8 arrays, as for `embed`.

        Returns:
          The cosine of the embeddings of both center squares, and a map over each, float32 2 x S/8
          x S/8, above 0 where it makes the two more alike.

        Raises:
          InputError: as `embed` does.
        """
        images.check_decoding(self.path, self.origin["decoding"])
        pair = np.concatenate([_decode(p, self.image_size, 1) for p in (first, second)])
        return likeness.likeness(self.embedder, pair)

    def probability(self, distance: npt.ArrayLike) -> np.ndarray:
        """Maps Euclidean distances to probabilities that two paintings are by one artist.

        One artist and two artists are assumed to be equally likely beforehand.

        Raises:
          InputError: the run was not evaluated.
        """
        if self.calibration is None:
            raise InputError(f"{self.path} has no calibration: evaluate the run (and export again)")
        return self.calibration.probability(distance)

    def attribute(
        self,
        paintings: Iterable[PaintingLike] | np.ndarray,
        collection: str | Path | None = None,
        *,
        someone_else: float = SOMEONE_ELSE,
    ) -> list[Answer]:
        """Tells who painted each painting: the artists of a collection, or someone else.

        A painting that is in the collection itself is no evidence for its own artist.

        Args:
          paintings: as `embed` takes them.
          collection: a .npz that painterjax.embed wrote, of paintings whose artists are known; None
            for all paintings of the run's store.
          someone_else: the probability beforehand that none of the artists painted it.

        Raises:
          InputError: as `embed` does; or the run was not evaluated, the collection is of another
            network or names no artist, or there is none.
        """
        if self.attribution is None:
            raise InputError(
                f"{self.path} cannot tell artists: evaluate the run (and export again)"
            )
        if collection is not None:
            emb_NxD, artists, squares = self._read_collection(Path(collection))
        elif self.run is not None:
            (emb_NxD, artists), squares = self._store, 1
        else:
            raise InputError(f"{self.path} has no store: give a collection that embed wrote")
        emb_QxD = self._embed(paintings, squares)
        own = []
        for emb_D in emb_QxD:
            distance_N = np.linalg.norm(emb_NxD - emb_D[None], axis=1)
            same = np.flatnonzero(distance_N <= embeddings.SAME_IMAGE * np.linalg.norm(emb_D))
            own.append([artists[row] for row in same])
        of = collect(emb_NxD, artists)
        return attribution.answers(self.attribution, emb_QxD, of, own, someone_else=someone_else)

    def _read_collection(self, path: Path) -> tuple[np.ndarray, list[str], int]:
        found = embeddings.load(path)
        check_same_network(str(path), found.origin, self.origin)
        artists = [painting.artist for painting in found.paintings]
        return found.emb_NxD, artists, found.origin.get("squares", 1)

    @functools.cached_property
    def _store(self) -> tuple[np.ndarray, list[str]]:
        """The embeddings of the run's store, and the artist of each."""
        assert self.run is not None, "of a run"
        splits = self.run.store.splits
        names = [name for name in catalog.SPLITS if len(splits[name])]
        emb_NxD = np.concatenate([split_embeddings(self.run, name).emb_NxD for name in names])
        return emb_NxD, [p.artist for name in names for p in splits[name].paintings]

    def _checked(self, image_NxSxSxC: np.ndarray) -> np.ndarray:
        side = self.image_size
        if image_NxSxSxC.dtype != np.uint8 or image_NxSxSxC.shape[1:] != (side, side, 3):
            found = f"{image_NxSxSxC.dtype} {image_NxSxSxC.shape}"
            raise InputError(f"images are {found}, expected uint8 (N, {side}, {side}, 3)")
        if not len(image_NxSxSxC):
            raise InputError("no painting to embed: pass at least one")
        return image_NxSxSxC


def load(path: Path) -> StyleEmbedder:
    """Loads the best network of a run, one that export wrote, or a published backbone by name."""
    if (path / exported.MANIFEST).exists():
        return StyleEmbedder(path, *exported.load(path))
    run = open_run(path)
    return StyleEmbedder(path, run.embedder, run.calibration, run.attribution, run.origin, run)


def _decode(painting: PaintingLike, size: int, most: int) -> np.ndarray:
    """The squares of a painting, K x S x S x 3."""
    try:
        if isinstance(painting, Image.Image):
            painting.load()  # Otherwise to_squares may reduce it.
            return images.to_squares(painting, size=size, most=most)
        if isinstance(painting, np.ndarray):
            return images.to_squares(_as_image(painting), size=size, most=most)
        if isinstance(painting, str | Path):
            image = images.open_image(images.read(Path(painting)))
            return images.to_squares(image, size=size, most=most)
    except images.ImageError as error:
        name = "an array" if isinstance(painting, np.ndarray) else painting
        raise InputError(f"{name}: {error}") from error
    kind = type(painting).__name__
    raise InputError(f"a painting is of type {kind}: must be a path, a PIL image or an array")


def _as_image(image_HxWxC: np.ndarray) -> Image.Image:
    if image_HxWxC.dtype != np.uint8 or image_HxWxC.ndim != 3 or image_HxWxC.shape[2] != 3:
        raise images.ImageError(f"{image_HxWxC.dtype} {image_HxWxC.shape}, not uint8 (H, W, 3)")
    return Image.fromarray(image_HxWxC)
