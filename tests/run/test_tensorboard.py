"""TensorBoard beside the scalars: the sheet of training tuples, once, and the projector."""

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from painterjax import train
from painterjax.data import raster, sampling
from painterjax.run import tensorboard
from painterjax.run.load import Run, load_run
from painterjax.training import trainer
from tests.helpers import tiny


@pytest.fixture(scope="module")
def opened(run) -> Run:
    return load_run(run)


@pytest.mark.parametrize("loss", ["triplet", "batch_all"])
def test_tuples_are_the_first_of_the_training(loss, config, split):
    """Without augmentation a row has the very pixels of an anchor, a positive and a negative."""
    config.loss.name = loss
    config.model.update(widths=(8,), depths=(1,), embedding_dim=8)
    training = trainer.build(config, split)
    training.batches.close()
    title, sheet_HxWxC = tensorboard.tuples(config, training)
    assert title == "train/anchor_positive_negative"
    step = 32 + tensorboard.GAP
    cells = sheet_HxWxC.reshape(4, step, 3, step, 3).swapaxes(1, 2)
    assert (cells[:, :, 32:] == 255).all() and (cells[:, :, :, 32:] == 255).all()
    same_4x3xN = (cells[:, :, None, :32, :32] == split.image_NxSxSxC[None, None]).all((3, 4, 5))
    assert same_4x3xN.any(axis=2).all()
    row_4x3 = same_4x3xN.argmax(axis=2)
    artist_4x3 = split.artist_N[row_4x3]
    assert (artist_4x3[:, 0] == artist_4x3[:, 1]).all() and (row_4x3[:, 0] != row_4x3[:, 1]).all()
    assert (artist_4x3[:, 0] != artist_4x3[:, 2]).all()
    if loss == "triplet":
        artists = sampling.artist_rows(split.artist_N)
        expected_Tx3 = sampling.triplets(artists, batch_size=4, seed=config.seed, index=0)
        np.testing.assert_array_equal(row_4x3, expected_Tx3)
    config.augmentation.brightness = 2.0
    _, changed_HxWxC = tensorboard.tuples(config, training)
    assert np.abs(changed_HxWxC.astype(int) - sheet_HxWxC).mean() > 20


def test_a_run_shows_its_tuples_once_even_if_training_continues(run, tiny_store):
    def images() -> list[tuple[int, bytes]]:
        return [
            (step, value.image.encoded_image_string)
            for step, value in tiny.summaries(run)
            if value.tag == "train/anchor_positive_negative"
        ]

    ((step, png),) = before = images()
    assert step == 1  # A start after a kill before the first checkpoint would not purge step 0.
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (3 * (32 + tensorboard.GAP), 32 + tensorboard.GAP)
    train.main(tiny.argv(tiny_store, run))
    assert images() == before


def test_the_projector_has_the_test_embeddings(run, opened):
    split, embedder = opened.store.splits["test"], opened.embedder
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
    assert lines == ["artist\tfile", *known]  # Style, date and so on are unknown.


def test_the_projector_takes_paintings_at_even_intervals(opened, tmp_path, monkeypatch):
    split, points = opened.store.splits["test"], 5
    styled = [dataclasses.replace(p, style=f"style\tof {i}") for i, p in enumerate(split.paintings)]
    split = dataclasses.replace(split, paintings=styled)
    monkeypatch.setattr(tensorboard, "POINTS", points)
    monkeypatch.setattr(tensorboard, "THUMBNAIL", 16)
    emb_NxD = np.arange(2.0 * len(split)).reshape(-1, 2)
    tensorboard.write_projector(tmp_path, split, emb_NxD)
    row_N = (np.loadtxt(tmp_path / "projector" / "vectors.tsv", delimiter="\t")[:, 0] / 2).astype(
        int
    )
    assert (row_N[0], row_N[-1], len(set(row_N))) == (0, len(split) - 1, points)
    heading, *lines = (tmp_path / "projector" / "paintings.tsv").read_text().splitlines()
    assert heading == "artist\tstyle\tfile"
    assert [line.split("\t")[1] for line in lines] == [f"style of {row}" for row in row_N]
    with Image.open(tmp_path / "projector" / "sprite.jpg") as sprite:
        sprite_HxWxC = np.asarray(sprite).astype(int)
    assert sprite_HxWxC.shape == (2 * 16, 3 * 16, 3)
    assert "single_image_dim: 16" in (tmp_path / "projector_config.pbtxt").read_text()
    for place, row in enumerate(row_N):
        y, x = 16 * np.array(divmod(place, 3))
        thumbnail_SxSxC = raster.thumbnail(split.image_NxSxSxC[row], 16)
        assert np.abs(sprite_HxWxC[y : y + 16, x : x + 16] - thumbnail_SxSxC).mean() < 12
