"""What TensorBoard shows beside the scalars: tuples of the training, and the test's embeddings.

The projector reads these files of a run folder:

    projector_config.pbtxt      names the others
    projector/vectors.tsv       an embedding a line
    projector/paintings.tsv     what is known of each, below a line of headings
    projector/sprite.jpg        a thumbnail of each, row by row on a square sheet
"""

import functools
import math
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from painterjax.common import files
from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.data.store import Split
from painterjax.model.augment import Augmentation, augment
from painterjax.training import trainer

TUPLES = 4
GAP = 2  # pixels
POINTS = 2000  # Beyond, the projector becomes slow.
THUMBNAIL = 48  # pixels; TensorBoard takes sheets of up to 8,192.
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
    """Draws the first triplets, or else tuples, of the first batch, augmented as training does it.

    Returns:
      A title, and a sheet with one a row: uint8 H x W x 3.
    """
    source = training.source
    artists = sampling.artist_rows(source.split.artist_N)
    title, row_BxT = _examples(config.loss.name, source.rows(artists, 0)["row"][0])
    settings = Augmentation(**config.augmentation)
    augmented = jax.jit(functools.partial(augment, settings=settings))
    pixels_NxSxSxC = np.asarray(
        augmented(source.split.image_NxSxSxC[row_BxT.reshape(-1)], jax.random.key(config.seed))
    )
    image_NxSxSxC = np.clip(127.5 * (pixels_NxSxSxC + 1), 0, 255).round().astype(np.uint8)
    return f"train/{title}", _sheet(image_NxSxSxC, columns=row_BxT.shape[1], gap=GAP)


def _examples(loss: str, row_BxT: np.ndarray) -> tuple[str, np.ndarray]:
    """What the columns are, and the first rows; of paintings by each of B artists, triplets."""
    if loss == "contrastive":
        return "pair", row_BxT[:TUPLES]
    if row_BxT.shape[1] == 1:
        return "painting", row_BxT[:TUPLES]
    if loss != "triplet":
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
    files.write_text(folder / "paintings.tsv", _known(split, rows))
    thumbnail_NxSxSxC = np.stack([_thumbnail(split.image_NxSxSxC[row]) for row in rows])
    sheet = _sheet(thumbnail_NxSxSxC, columns=math.ceil(math.sqrt(len(rows))))
    temporary = folder / "sprite.tmp"
    Image.fromarray(sheet).save(temporary, "JPEG", quality=85)
    temporary.replace(folder / "sprite.jpg")
    names = {"split": split.name, "rows": len(rows), "dim": emb_NxD.shape[1], "side": THUMBNAIL}
    files.write_text(run / "projector_config.pbtxt", PROJECTOR.format(**names))


def _known(split: Split, rows: np.ndarray) -> str:
    """A table of the paintings; without the columns of which nothing is known."""
    columns = {
        name: [" ".join(getattr(split.paintings[row], name).split()) for row in rows]
        for name in ("artist", "style", "genre", "date", "title", "file")
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    table = [tuple(columns), *zip(*columns.values(), strict=True)]
    return "".join("\t".join(line) + "\n" for line in table)


def _thumbnail(image_SxSxC: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image_SxSxC).resize((THUMBNAIL, THUMBNAIL)))


def _sheet(image_NxSxSxC: np.ndarray, *, columns: int, gap: int = 0) -> np.ndarray:
    """Lays images out row by row on white, a gap below and to the right of each."""
    missing = -len(image_NxSxSxC) % columns
    around = ((0, missing), (0, gap), (0, gap), (0, 0))
    image_NxSxSxC = np.pad(image_NxSxSxC, around, constant_values=255)
    side = image_NxSxSxC.shape[1]
    image_RxKxSxSxC = image_NxSxSxC.reshape(-1, columns, side, side, 3)
    return image_RxKxSxSxC.swapaxes(1, 2).reshape(-1, columns * side, 3)
