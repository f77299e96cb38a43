"""Less memory for the same step: batches in chunks, and blocks that are computed anew."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs import default
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data import store
from painterjax.distributed import compilation
from painterjax.model import backbones, efficientnet
from painterjax.model.augment import normalize
from painterjax.model.build import build_network
from painterjax.run import config_checks
from painterjax.training import trainer
from painterjax.training.step import train_step, train_steps
from tests.helpers import steps_of_mesh, tiny_transformer
from tests.helpers.memory import temporary_bytes

CHUNKS = 2


def _recipe(training: trainer.Training, **changes: Any) -> Any:
    """The recipe that a training's step was compiled from."""
    return dataclasses.replace(training.step.__wrapped__.keywords["recipe"], **changes)


@pytest.mark.parametrize(
    ("dtype", "residency", "tolerance"),
    # A kernel's gradient sums 16 x 28 x 28 products in another order: in float32
    # sqrt(12,544) / 2^24 = 7e-6.
    [
        pytest.param("float32", "host", 1e-5),
        pytest.param("float64", "device", 1e-12, marks=pytest.mark.slow),
    ],
)
def test_chunks_of_a_frozen_network_take_the_plain_step(split, dtype, residency, tolerance):
    """With augmentation, second views and several paintings by each artist."""
    config = steps_of_mesh.small("multi_similarity", dtype, residency, steps_of_mesh.CHANGES)
    config.model.batch_norm, config.model.head = "frozen", "statistics"
    config.loss.view_weight = 0.5
    _check_chunks(split, config, tolerance)


def test_chunks_of_a_transformer_with_adapters_take_the_plain_step(split, monkeypatch):
    config = steps_of_mesh.small("multi_similarity", "float64", "device", steps_of_mesh.CHANGES)
    _transformer(config, monkeypatch)
    _check_chunks(split, config, 1e-12)


def _check_chunks(split: store.Split, config: Config, tolerance: float) -> None:
    """Takes the first steps at once and in chunks."""
    plain = steps_of_mesh.take(split, config)
    config.chunk_size = config.batch_size // CHUNKS
    in_chunks = steps_of_mesh.take(split, config)
    for name, array in plain.items():
        if name in ("row", "artist"):
            np.testing.assert_array_equal(in_chunks[name], array)
        elif name != "read":
            error = np.linalg.norm(in_chunks[name] - array) / np.linalg.norm(array)
            assert error < tolerance, name


@pytest.mark.parametrize(
    ("loss", "batch_norm"),
    [("batch_all", "branch"), pytest.param("triplet", "batch", marks=pytest.mark.slow)],
)
def test_chunks_have_the_gradient_of_a_batch_whose_groups_they_are(config, split, loss, batch_norm):
    """Parameters and running statistics, in float64; each branch of each chunk is a group."""
    config.model.widths, config.model.depths, config.model.embedding_dim = (4, 8), (1, 1), 16
    config.model.dtype, config.model.batch_norm = "float64", batch_norm
    config.loss.name, config.chunk_size = loss, config.batch_size // CHUNKS
    with jax.enable_x64(True):
        training = trainer.build(config, split)
        state = jax.tree.map(lambda x: x.astype(float) if x.ndim else x, training.state)
        batch = {name: array[0] for name, array in next(training.batches).items()}
        training.batches.close()
        recipe = _recipe(training, optimizer=optax.sgd(1.0))
        state = dataclasses.replace(state, moments=recipe.optimizer.init(None))
        step = compilation.jit(functools.partial(train_step, recipe=recipe))
        after, _ = step(state, batch, training.constants)
        chunks_GxBxT = np.split(np.asarray(batch["row"]), CHUNKS)
        branches_RxB = np.array([branch for rows in chunks_GxBxT for branch in rows.T])
        groups = len(branches_RxB) if batch_norm == "branch" else CHUNKS

        def direct(params: Any, image_NxSxSxC: jax.Array) -> Any:
            network = nnx.merge(recipe.network, params, state.stats, copy=True)
            emb_NxD = network(image_NxSxSxC, branches=groups)
            emb_GxTxBxD = emb_NxD.reshape(CHUNKS, batch["row"].shape[1], -1, emb_NxD.shape[1])
            emb_BxTxD = jnp.concatenate([emb.swapaxes(0, 1) for emb in emb_GxTxBxD])
            scalars = recipe.objective.scalars(emb_BxTxD, batch["artist"], batch["row"], {})
            return scalars["loss"], nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

        images = jax.jit(normalize)(split.image_NxSxSxC[branches_RxB.ravel()])
        gradient, stats = compilation.jit(jax.grad(direct, has_aux=True))(state.params, images)
    moved = jax.tree.map(lambda before, now: before - now, state.params, after.params)
    for ours, theirs in ((moved, gradient), (after.stats, stats)):
        for (path, array), expected in zip(
            jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
        ):
            np.testing.assert_allclose(array, expected, rtol=1e-9, atol=1e-12, err_msg=str(path))


def _temporary_bytes(training: trainer.Training, *, images: int, chunks: int) -> int:
    """What a step over that many images needs besides its arguments; it is compiled, not run."""
    recipe = _recipe(training, chunks=chunks)
    image_NxSxSxC = jax.ShapeDtypeStruct((36, 256, 256, 3), np.uint8)
    constants = dataclasses.replace(training.constants, image_NxSxSxC=image_NxSxSxC)
    batch = {
        name: jax.ShapeDtypeStruct((1, images // 2, 2), np.int32) for name in ("row", "artist")
    }
    step = compilation.jit(functools.partial(train_steps, recipe=recipe))
    lowered = step.lower(training.state, batch, constants, np.int32(1))
    return temporary_bytes(lowered)


def test_8192_images_in_chunks_of_256_take_the_memory_of_256(config, split):
    """Beside it 8,192 embeddings, their gradient and a copy; tables of all pairs take its place.

    At 256 pixels; at once they would take 32 times as much.
    """
    config.model.widths, config.model.depths, config.model.embedding_dim = (32,), (1,), 16
    config.model.head, config.loss.name = "statistics", "supervised_contrastive"
    config.loss.paintings_per_artist = 2
    training = trainer.build(config, split)
    training.batches.close()
    alone = _temporary_bytes(training, images=256, chunks=1)
    in_chunks = _temporary_bytes(training, images=8192, chunks=32)
    assert alone > 256**3 * 32 * 4  # Activations of a layer.
    assert in_chunks < 1.001 * alone + 3 * 8192 * 16 * 4


def test_chunks_that_do_not_divide_the_artists_are_refused(config, split):
    config.loss.name, config.batch_size, config.chunk_size = "batch_all", 64, 4
    refusal = (
        "batch_size is 64, but .* only 6 artists, which chunks of 4 do not divide: set it to 4"
    )
    with pytest.raises(InputError, match=refusal):
        trainer.build(config, split)


def test_a_chunk_is_split_over_the_devices():
    config = default.get_config()
    config.batch_size, config.chunk_size = 12, 4
    config_checks.check_devices(config, 4)
    config.chunk_size = 6
    with pytest.raises(InputError, match="chunk_size is 6, over 4 devices: must be divisible"):
        config_checks.check_devices(config, 4)


def _transformer(config: Config, monkeypatch: pytest.MonkeyPatch, *, depth: int = 2) -> None:
    """Chooses a tiny one, with adapters."""
    arch = dataclasses.replace(tiny_transformer.ARCHITECTURE, depth=depth)
    monkeypatch.setattr(tiny_transformer, "ARCHITECTURE", arch)
    tiny_transformer.install(monkeypatch)
    config.model.backbone, config.model.head = tiny_transformer.NAME, "linear"
    config.model.lora_rank = 2


def _efficientnet(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses its first blocks: one without expansion, one with a stride, one with a skip."""
    monkeypatch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:2])
    row = dataclasses.replace(backbones.BACKBONES["efficientnet_lite0"], published=None)
    monkeypatch.setitem(backbones.BACKBONES, "efficientnet_lite0", row)
    config.model.backbone, config.model.head = "efficientnet_lite0", "linear"


def _conv_blocks(config: Config, _: pytest.MonkeyPatch) -> None:
    config.model.widths, config.model.depths = (4, 8), (2, 1)


@pytest.mark.parametrize(
    "backbone", [_conv_blocks, _transformer, pytest.param(_efficientnet, marks=pytest.mark.slow)]
)
def test_blocks_that_are_computed_anew_have_the_same_gradient(split, backbone, monkeypatch):
    """In float64, to 1e-12; BatchNorm's statistics move once."""
    config = steps_of_mesh.small("batch_all", "float64", "device")
    backbone(config, monkeypatch)
    # At 16 pixels: gradients of kernels have a term for each row, which takes long to compile.
    split = dataclasses.replace(split, image_NxSxSxC=split.image_NxSxSxC[:, ::2, ::2])
    plain = steps_of_mesh.take(split, config)
    config.model.remat = True
    for name, array in steps_of_mesh.take(split, config).items():
        error = np.linalg.norm(array - plain[name])
        assert error <= 1e-12 * np.linalg.norm(plain[name]), name


def _kept_bytes(config: Config, *, images: int) -> int:
    """What the forward pass keeps for the gradient by the parameters, beside these; not run."""
    graphdef, params, stats = build_network(config, image_size=32)

    def backward(params: Any, image_NxSxSxC: jax.Array) -> Any:
        def embed(params: Any) -> jax.Array:
            return nnx.merge(graphdef, params, stats, copy=True)(image_NxSxSxC, branches=1)

        return jax.vjp(embed, params)[1]

    image_NxSxSxC = jax.ShapeDtypeStruct((images, 32, 32, 3), np.float32)
    kept = jax.tree.leaves(jax.eval_shape(backward, params, image_NxSxSxC))
    return sum(array.size * array.dtype.itemsize for array in kept if images in array.shape)


def test_of_a_block_that_is_computed_anew_the_input_alone_is_kept(config, monkeypatch):
    """Of a transformer's: 17 tokens of 16 numbers for each image, and else many times as much."""
    kept: dict[tuple[bool, int], int] = {}
    for depth in (2, 6):
        _transformer(config, monkeypatch, depth=depth)
        config.model.stages = (depth,)  # The last norm.
        for config.model.remat in (False, True):
            kept[config.model.remat, depth] = _kept_bytes(config, images=100)
    plain, anew = ((kept[remat, 6] - kept[remat, 2]) / 4 for remat in (False, True))
    assert anew == 100 * 17 * 16 * 4
    assert plain > 10 * anew
