"""TensorBoard beside the scalars: a sheet of training tuples, and the test embeddings.

TensorBoard's projector reads these files of a run folder:

    projector_config.pbtxt      names the other files
    projector/vectors.tsv       one embedding per line
    projector/paintings.tsv     what the catalog knows of each, below a header line
    projector/sprite.jpg        a thumbnail of each, row by row on a square sheet
"""

import functools
import math
from pathlib import Path

import jax
import numpy as np

from painterjax.common import files
from painterjax.common.config import Config
from painterjax.data import raster, sampling
from painterjax.data.store import Split
from painterjax.distributed import compilation
from painterjax.losses.objectives import LOSSES
from painterjax.model.augment import Augmentation, augment
from painterjax.training import trainer

TUPLES = 4
GAP = 2  # pixels
POINTS = 2000  # The projector becomes slow with more.
THUMBNAIL = 48  # pixels at most; TensorBoard accepts sheets of up to 8,192.
PROJECTOR = """\
embeddings {{
  tensor_name: "{split}"
  tensor_shape: {rows}
  tensor_shape: {dim}
  tensor_path: "projector/vectors.tsv"
  metadata_path: "projector/paintings.tsv"
  sprite {{
    image_path: "projector/sprite.jpg"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""


def tuples(config: Config, training: trainer.Training) -> tuple[str, np.ndarray]:
    """Draws the first tuples of the first batch, augmented as in training.

    Returns:
      A title, and a sheet with one tuple per row: uint8 H x W x 3.
    """
    source = training.source
    artists = sampling.artist_rows(source.split.artist_N)
    title, row_BxT = _examples(config.loss.name, source.rows(artists, 0)["row"][0])
    settings = Augmentation(**config.augmentation)
    augmented = compilation.jit(functools.partial(augment, settings=settings))
    pixels_NxSxSxC = np.asarray(
        augmented(source.split.image_NxSxSxC[row_BxT.reshape(-1)], jax.random.key(config.seed))
    )
    image_NxSxSxC = np.clip(127.5 * (pixels_NxSxSxC + 1), 0, 255).round().astype(np.uint8)
    return f"train/{title}", raster.sheet(image_NxSxSxC, columns=row_BxT.shape[1], gap=GAP)


def _examples(loss: str, row_BxT: np.ndarray) -> tuple[str, np.ndarray]:
    """The title of the sheet, and the first rows; a batch of artists is shown as triplets."""
    size = row_BxT.shape[1]
    if size == 1 or (not LOSSES[loss].in_batch and size == 2):
        return ("painting", "pair")[size - 1], row_BxT[:TUPLES]
    if LOSSES[loss].in_batch:
        negative_B = np.roll(row_BxT[:, 0], -1)  # by the next artist
        row_BxT = np.stack([row_BxT[:, 0], row_BxT[:, 1], negative_B], axis=1)
    return "anchor_positive_negative", row_BxT[:TUPLES]


def write_projector(run: Path, split: Split, emb_NxD: np.ndarray) -> None:
    """Writes the embeddings of a split for the projector, of at most POINTS paintings."""
    rows = np.linspace(0, len(split) - 1, min(len(split), POINTS)).astype(int)
    folder = run / "projector"
    folder.mkdir(exist_ok=True)
    lines = ["\t".join(f"{value:.5g}" for value in emb_D) for emb_D in emb_NxD[rows].tolist()]
    files.write_text(folder / "vectors.tsv", "\n".join(lines) + "\n")
    files.write_text(folder / "paintings.tsv", _paintings_table(split, rows))
    thumbnails = [_thumbnail(split, row) for row in rows]
    sprite = raster.sheet(np.stack(thumbnails), columns=math.ceil(math.sqrt(len(rows))))
    with files.replacing(folder / "sprite.jpg") as temporary:
        temporary.write_bytes(raster.jpeg(sprite))
    side, dim = len(thumbnails[0]), emb_NxD.shape[1]
    config = PROJECTOR.format(split=split.name, rows=len(rows), dim=dim, side=side)
    files.write_text(run / "projector_config.pbtxt", config)


def _thumbnail(split: Split, row: int) -> np.ndarray:
    if split.pictures is None:
        return raster.thumbnail(split.image_NxSxSxC[row], THUMBNAIL)
    return raster.framed(split.picture(row), THUMBNAIL)


def _paintings_table(split: Split, rows: np.ndarray) -> str:
    """Tab-separated columns of the catalog, without the empty ones."""
    columns = {
        name: [" ".join(getattr(split.paintings[row], name).split()) for row in rows]
        for name in ("artist", "style", "genre", "date", "title", "file")
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    table = [tuple(columns), *zip(*columns.values(), strict=True)]
    return "".join("\t".join(line) + "\n" for line in table)
