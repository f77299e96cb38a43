"""What TensorBoard shows beside scalars: tuples of the training, once, and the projector."""

import dataclasses
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from painterjax import train
from painterjax.data import sampling, store
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder
from painterjax.run import tensorboard
from painterjax.training import trainer
from tests.helpers import tiny


@pytest.fixture(scope="module")
def opened(run) -> store.Store:
    return store.open_store(run_folder.read_config(run).data.store)


def test_tuples_are_the_first_of_the_training_as_augmented(config, split):
    """Without augmentation the sheet holds the very pixels, anchor, positive, negative a row."""
    config.model.update(widths=(8,), depths=(1,), embedding_dim=8)
    training = trainer.training(config, split)
    training.batches.close()
    title, sheet_HxWxC = tensorboard.tuples(config, training)
    assert title == "train/anchor_positive_negative"
    row_Tx3 = sampling.triplets(
        sampling.artist_rows(split.artist_N), batch_size=4, seed=config.seed, index=0
    )
    step = 32 + tensorboard.GAP
    assert sheet_HxWxC.shape == (4 * step, 3 * step, 3)
    for row, column in np.ndindex(4, 3):
        cell = sheet_HxWxC[row * step :, column * step :][:step, :step]
        np.testing.assert_array_equal(cell[:32, :32], split.image_NxSxSxC[row_Tx3[row, column]])
        assert (cell[32:] == 255).all()
    config.augmentation.brightness = 2.0
    _, changed_HxWxC = tensorboard.tuples(config, training)
    assert np.abs(changed_HxWxC.astype(int) - sheet_HxWxC).mean() > 20


def test_a_batch_of_artists_shows_triplets_of_them(config, split):
    config.loss.name = "batch_all"
    config.model.update(widths=(8,), depths=(1,), embedding_dim=8)
    training = trainer.training(config, split)
    training.batches.close()
    title, sheet_HxWxC = tensorboard.tuples(config, training)
    assert title == "train/anchor_positive_negative"
    step = 32 + tensorboard.GAP
    cells = sheet_HxWxC.reshape(4, step, 3, step, 3).swapaxes(1, 2)[:, :, :32, :32]
    same_4x3xN = (cells[:, :, None] == split.image_NxSxSxC[None, None]).all(axis=(3, 4, 5))
    row_4x3 = same_4x3xN.argmax(axis=2)
    assert same_4x3xN.any(axis=2).all()
    artist_4x3 = split.artist_N[row_4x3]
    assert (artist_4x3[:, 0] == artist_4x3[:, 1]).all() and (row_4x3[:, 0] != row_4x3[:, 1]).all()
    assert (artist_4x3[:, 0] != artist_4x3[:, 2]).all()


def test_a_run_shows_its_tuples_once_also_when_it_goes_on(run, tiny_store):
    def images() -> list[tuple[int, bytes]]:
        return [
            (step, value.image.encoded_image_string)
            for step, value in tiny.summaries(run)
            if value.tag == "train/anchor_positive_negative"
        ]

    ((step, png),) = before = images()
    assert step == 1  # At 0 a start after a kill before the first checkpoint would not purge it.
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (3 * (32 + tensorboard.GAP), 32 + tensorboard.GAP)
    train.main(tiny.argv(tiny_store, run))
    assert images() == before


def test_the_projector_has_the_test_s_embeddings(run, opened):
    split = opened.splits["test"]
    embedder, _ = run_embed.of_run(run)
    text = (run / "projector_config.pbtxt").read_text()
    assert re.findall(r'\w+_path: "(.*)"', text) == [
        "projector/vectors.tsv", "projector/paintings.tsv", "projector/sprite.jpg",
    ]  # fmt: skip
    assert re.findall(r"tensor_shape: (\d+)", text) == ["16", "16"]
    emb_NxD = np.loadtxt(run / "projector" / "vectors.tsv", delimiter="\t")
    # They are written with five digits.
    np.testing.assert_allclose(emb_NxD, embedder.embed(split.image_NxSxSxC), rtol=1e-4, atol=1e-4)
    lines = (run / "projector" / "paintings.tsv").read_text().splitlines()
    known = [f"{painting.artist}\t{painting.file}" for painting in split.paintings]
    assert lines == ["artist\tfile", *known]  # Nothing is known of style, date and so on.


def test_the_projector_takes_a_share_of_each_artist_s_paintings(opened, tmp_path, monkeypatch):
    split, points = opened.splits["test"], 5
    styled = [dataclasses.replace(p, style=f"style\tof {i}") for i, p in enumerate(split.paintings)]
    split = dataclasses.replace(split, paintings=styled)
    monkeypatch.setattr(tensorboard, "POINTS", points)
    emb_NxD = np.arange(2.0 * len(split)).reshape(-1, 2)
    tensorboard.write_projector(tmp_path, split, emb_NxD)
    row_N = (np.loadtxt(tmp_path / "projector" / "vectors.tsv", delimiter="\t")[:, 0] / 2).astype(
        int
    )
    assert (row_N[0], row_N[-1], len(set(row_N))) == (0, len(split) - 1, points)
    heading, *lines = (tmp_path / "projector" / "paintings.tsv").read_text().splitlines()
    assert heading == "artist\tstyle\tfile"
    assert [line.split("\t")[1] for line in lines] == [f"style of {row}" for row in row_N]
    side, columns = tensorboard.THUMBNAIL, math.ceil(math.sqrt(points))
    with Image.open(tmp_path / "projector" / "sprite.jpg") as sprite:
        sprite_HxWxC = np.asarray(sprite).astype(int)
    assert sprite_HxWxC.shape[1] == columns * side
    for place, row in enumerate(row_N):
        y, x = side * np.array(divmod(place, columns))
        thumbnail = Image.fromarray(split.image_NxSxSxC[row]).resize((side, side))
        difference = sprite_HxWxC[y : y + side, x : x + side] - np.asarray(thumbnail)
        assert np.abs(difference).mean() < 12
