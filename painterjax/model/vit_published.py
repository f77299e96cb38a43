"""The published vision transformers: their sizes, and the names of their arrays in safetensors.

The names are those of files in Hugging Face's layout, which `transformers` writes.
"""

import dataclasses

from painterjax.model.vit import (
    HALVES,
    IMAGENET,
    OPENAI,
    Architecture,
    exact_gelu,
    quick_gelu,
    tanh_gelu,
)
from painterjax.model.weights import Renaming

_DINOV2_SMALL = Architecture(
    width=384, depth=12, heads=6, hidden=1536, patch=14, grid=37,
    activation=exact_gelu, epsilon=1e-6, colors=IMAGENET, layer_scale=True,
)  # fmt: skip
_CLIP_B32 = Architecture(
    width=768, depth=12, heads=12, hidden=3072, patch=32, grid=7,
    activation=quick_gelu, epsilon=1e-5, colors=OPENAI, patch_bias=False, norm_first=True,
)  # fmt: skip
_SIGLIP_B16 = Architecture(
    width=768, depth=12, heads=12, hidden=3072, patch=16, grid=14,
    activation=tanh_gelu, epsilon=1e-6, colors=HALVES, class_token=False, attention_pool=True,
)  # fmt: skip
_BASE = {"width": 768, "heads": 12, "hidden": 3072}
_LARGE = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}

DINOV2 = {
    "dinov2_small": _DINOV2_SMALL,
    "dinov2_base": dataclasses.replace(_DINOV2_SMALL, **_BASE),
    "dinov2_large": dataclasses.replace(_DINOV2_SMALL, **_LARGE),
}
DINOV2 |= {
    f"{name}_registers": dataclasses.replace(arch, registers=4, antialias=True)
    for name, arch in DINOV2.items()
}
CLIP = {
    "clip_base_32": _CLIP_B32,
    "clip_base_16": dataclasses.replace(_CLIP_B32, patch=16, grid=14),
    "clip_large_14": dataclasses.replace(_CLIP_B32, **_LARGE, patch=14, grid=16),
    "clip_large_14_336": dataclasses.replace(_CLIP_B32, **_LARGE, patch=14, grid=24),
}
SIGLIP = {
    "siglip_base_16_224": _SIGLIP_B16,
    "siglip_base_16_256": dataclasses.replace(_SIGLIP_B16, grid=16),
    "siglip_large_16_256": dataclasses.replace(_SIGLIP_B16, **_LARGE, grid=16),
    "siglip_so400m_14_384": dataclasses.replace(
        _SIGLIP_B16, width=1152, depth=27, heads=16, hidden=4304, patch=14, grid=27
    ),
}


def _layer(theirs: str, ours: str, *, norm: bool = False) -> list[Renaming]:
    """The two arrays of a dense layer, a convolution or a norm."""
    if norm:
        weight = Renaming(rf"{theirs}\.weight", rf"{ours}.scale")
    else:
        weight = Renaming(rf"{theirs}\.weight", rf"{ours}.kernel", (1, 0))
    return [weight, Renaming(rf"{theirs}\.bias", rf"{ours}.bias")]


def _patches(theirs: str) -> list[Renaming]:
    return [
        Renaming(rf"{theirs}\.weight", "patches.kernel", (2, 3, 1, 0)),
        Renaming(rf"{theirs}\.bias", "patches.bias"),
    ]


_DINO_BLOCK, _OURS = r"(?:dinov2\w*\.)?encoder\.layer\.(\d+)", r"blocks.\1"
_DINO = r"(?:dinov2\w*\.)?"
DINOV2_RENAMINGS = [
    Renaming(rf"{_DINO}embeddings\.cls_token", "class_token"),
    Renaming(rf"{_DINO}embeddings\.register_tokens", "registers"),
    Renaming(rf"{_DINO}embeddings\.position_embeddings", "positions"),
    *_patches(rf"{_DINO}embeddings\.patch_embeddings\.projection"),
    *(
        each
        for name in ("query", "key", "value")
        for each in _layer(rf"{_DINO_BLOCK}\.attention\.attention\.{name}", f"{_OURS}.{name}")
    ),
    *_layer(rf"{_DINO_BLOCK}\.attention\.output\.dense", f"{_OURS}.out"),
    *_layer(rf"{_DINO_BLOCK}\.mlp\.fc1", f"{_OURS}.up"),
    *_layer(rf"{_DINO_BLOCK}\.mlp\.fc2", f"{_OURS}.down"),
    *_layer(rf"{_DINO_BLOCK}\.norm1", f"{_OURS}.norm1", norm=True),
    *_layer(rf"{_DINO_BLOCK}\.norm2", f"{_OURS}.norm2", norm=True),
    Renaming(rf"{_DINO_BLOCK}\.layer_scale1\.lambda1", f"{_OURS}.scale1"),
    Renaming(rf"{_DINO_BLOCK}\.layer_scale2\.lambda1", f"{_OURS}.scale2"),
    *_layer(rf"{_DINO}layernorm", "norm", norm=True),
]
DINOV2_UNUSED = rf"{_DINO}embeddings\.mask_token|classifier\..*"

_TOWER = r"(?:vision_model\.)?"
_TOWER_BLOCK = rf"{_TOWER}encoder\.layers\.(\d+)"
# Of CLIP and SigLIP.
TOWER_RENAMINGS = [
    Renaming(rf"{_TOWER}embeddings\.class_embedding", "class_token"),
    Renaming(rf"{_TOWER}embeddings\.position_embedding\.weight", "positions"),
    *_patches(rf"{_TOWER}embeddings\.patch_embedding"),
    *_layer(rf"{_TOWER}pre_layrnorm", "norm_first", norm=True),
    *(
        each
        for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out"))
        for each in _layer(rf"{_TOWER_BLOCK}\.self_attn\.{theirs}_proj", f"{_OURS}.{ours}")
    ),
    *_layer(rf"{_TOWER_BLOCK}\.mlp\.fc1", f"{_OURS}.up"),
    *_layer(rf"{_TOWER_BLOCK}\.mlp\.fc2", f"{_OURS}.down"),
    *_layer(rf"{_TOWER_BLOCK}\.layer_norm1", f"{_OURS}.norm1", norm=True),
    *_layer(rf"{_TOWER_BLOCK}\.layer_norm2", f"{_OURS}.norm2", norm=True),
    *_layer(rf"{_TOWER}post_layernorm", "norm", norm=True),
    Renaming(rf"{_TOWER}head\.probe", "pool.probe"),
    Renaming(rf"{_TOWER}head\.attention\.in_proj_weight", "pool.query_key_value.kernel", (1, 0)),
    Renaming(rf"{_TOWER}head\.attention\.in_proj_bias", "pool.query_key_value.bias"),
    *_layer(rf"{_TOWER}head\.attention\.out_proj", "pool.out"),
    *_layer(rf"{_TOWER}head\.mlp\.fc1", "pool.up"),
    *_layer(rf"{_TOWER}head\.mlp\.fc2", "pool.down"),
    *_layer(rf"{_TOWER}head\.layernorm", "pool.norm", norm=True),
]
# What files of both towers hold besides.
TOWER_UNUSED = (
    r"text_model\..*|logit_scale|logit_bias|visual_projection\..*|text_projection\..*"
    r"|.*\.position_ids"
)
