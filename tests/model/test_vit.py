"""Vision transformers against `transformers`, with random weights in files that it writes."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from painterjax.common.errors import InputError
from painterjax.model import build, vit, vit_published
from painterjax.model.backbones import BACKBONES, LocalFile

# Rounding changes a sum of K terms by about sqrt(K) / 2^24 of it. The layers have 500 terms in all,
# which makes 2e-6; and fifty times that, as the layers behind may magnify it.
RTOL = 1e-4
SMALL = {"width": 32, "depth": 2, "heads": 4, "hidden": 64, "patch": 4, "grid": 3}
ARCHITECTURES = {
    name: dataclasses.replace(arch, **SMALL)
    for name, arch in (vit_published.DINOV2 | vit_published.CLIP | vit_published.SIGLIP).items()
    if name in ("dinov2_small", "dinov2_small_registers", "clip_base_32", "siglip_base_16_224")
}


def _theirs(name: str, torch: Any) -> Any:
    """The small network of `transformers`, as files hold it, with random weights everywhere."""
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers: pip install -e '.[compare]'"
    )
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {**sizes, "image_size": 12, "patch_size": 4}
    if name.startswith("dinov2"):
        kind = "Dinov2WithRegisters" if "registers" in name else "Dinov2"
        config = getattr(transformers, f"{kind}Config")(**vision, mlp_ratio=2)
    else:
        kind = "CLIP" if name.startswith("clip") else "Siglip"
        text = {
            **sizes,
            "intermediate_size": 8,
            "vocab_size": 4,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }
        config = getattr(transformers, f"{kind}Config")(
            text_config=text, vision_config={**vision, "intermediate_size": 64}
        )
    network = getattr(transformers, f"{kind}Model")(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def _tower(theirs: Any) -> Any:
    """The part of a network that takes images."""
    return getattr(theirs, "vision_model", theirs)


def _file(name: str) -> LocalFile:
    published = BACKBONES[name].published
    assert isinstance(published, LocalFile)
    return published


def _ours(name: str, path: Path) -> tuple[Any, Any]:
    network = vit.VisionTransformer(
        ARCHITECTURES[name], remat=False, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    graphdef, params, _ = build.split_network(network)
    shapes = {key: array.shape for key, array in build.arrays_by_name(params).items()}
    found = _file(name).read(str(path), shapes)
    loaded = jax.tree.map_with_path(lambda at, _: jnp.asarray(found[build.array_name(at)]), params)
    return graphdef, loaded


@pytest.mark.parametrize("size", [12, 20])  # As the positions were learned for, and larger.
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_block_matches_transformers(name, size, tmp_path, torch):
    theirs = _theirs(name, torch)
    theirs.save_pretrained(tmp_path)
    network, params = _ours(name, tmp_path / "model.safetensors")
    image_NxSxSxC = np.random.default_rng(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    forward = jax.jit(lambda p, x: nnx.merge(network, p)(x, branches=None))
    # So that steps may be a loop, in which the library's are slow on CPUs.
    assert "stablehlo.convolution" not in forward.lower(params, image_NxSxSxC).as_text()
    ours = forward(params, image_NxSxSxC)

    mean_C, deviation_C = np.array(ARCHITECTURES[name].colors, np.float32)
    pixels = torch.from_numpy(((image_NxSxSxC + 1) / 2 - mean_C) / deviation_C)
    options = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        found = _tower(theirs)(pixels.permute(0, 3, 1, 2), output_hidden_states=True, **options)
    expected = [state.numpy() for state in found.hidden_states[1:]]
    assert len(expected) == SMALL["depth"]
    assert len(ours) == ARCHITECTURES[name].stages
    for mine, other in zip(ours, expected, strict=False):
        assert np.linalg.norm(mine - other) < RTOL * np.linalg.norm(other)
    pooled = found.pooler_output.numpy()  # The class token, or what attention pools.
    mine = ours[-1][:, 0]
    assert np.linalg.norm(mine - pooled) < RTOL * np.linalg.norm(pooled)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_block_in_bfloat16_is_near_float32(name):
    """Some 20 products and sums, whose numbers are rounded to 1 / 512 of themselves; ten times."""
    image_NxSxSxC = np.random.default_rng(0).uniform(-1, 1, (2, 12, 12, 3)).astype(np.float32)
    both = []
    for dtype in (jnp.float32, jnp.bfloat16):
        network = vit.VisionTransformer(
            ARCHITECTURES[name], dtype=dtype, remat=False, rngs=nnx.Rngs(0)
        )
        both.append(jax.jit(lambda x, network=network: network(x, branches=None))(image_NxSxSxC))
    for exact, low in zip(*both, strict=True):
        error = np.linalg.norm(np.asarray(low, np.float32) - exact) / np.linalg.norm(exact)
        assert RTOL < error < 0.09


@pytest.mark.parametrize("name", ["clip_base_32", "siglip_base_16_224"])
def test_the_tower_alone_is_read_as_the_whole_file(name, tmp_path, torch):
    theirs = _theirs(name, torch)
    theirs.save_pretrained(tmp_path / "whole")
    _tower(theirs).save_pretrained(tmp_path / "tower")
    whole, tower = (
        _ours(name, tmp_path / kind / "model.safetensors")[1] for kind in ("whole", "tower")
    )
    for array, other in zip(*map(jax.tree.leaves, (whole, tower)), strict=True):
        np.testing.assert_array_equal(array, other)


def test_what_does_not_fit_a_transformer_is_said_at_once(tmp_path, torch):
    theirs = _theirs("clip_base_32", torch)
    theirs.save_pretrained(tmp_path)
    shapes = {"class_token": (16,), "nowhere": (1,)}
    with pytest.raises(InputError, match=r"missing are nowhere; unknown are .*; of another shape"):
        _file("clip_base_32").read(str(tmp_path / "model.safetensors"), shapes)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(7, 9), (3, 4), (5, 2)])
def test_positions_are_resized_as_pytorch_does_it(shape, antialias, torch):
    position_GxGxC = np.random.default_rng(0).normal(size=(5, 5, 3)).astype(np.float32)
    ours = vit.resize_positions(jnp.asarray(position_GxGxC), shape, antialias=antialias)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(position_GxGxC).permute(2, 0, 1)[None],
        size=shape,
        mode="bicubic",
        align_corners=False,
        antialias=antialias,
    )
    # Weights, whose absolute values sum to at most 2 along each axis, are right to some 1 / 2^22.
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0), rtol=0, atol=1e-5)
