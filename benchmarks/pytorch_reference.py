"""The reference solution's network, losses and training step in PyTorch.

What painterjax is tested against, and measured against.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

WIDTHS, DEPTHS = (16, 32, 64, 128, 256), (2, 3, 3, 3, 3)


class StyleNet(nn.Module):
    """Five blocks of convolutions, BatchNorm and ReLU with a max pool; Linear, LayerNorm, ReLU."""

    def __init__(self, *, image_size: int, embedding_dim: int = 2048) -> None:
        super().__init__()
        self.blocks = conv_blocks(WIDTHS, DEPTHS)
        side = image_size // 2 ** len(WIDTHS)
        self.linear = nn.Linear(side * side * WIDTHS[-1], embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, image_NxCxSxS: torch.Tensor) -> torch.Tensor:
        """Maps images in [-1, 1] to embeddings: N x 3 x S x S to N x D."""
        x_NxCxSxS = image_NxCxSxS
        for block in self.blocks:
            x_NxCxSxS = nn.functional.max_pool2d(block(x_NxCxSxS), 2)
        return torch.relu(self.norm(self.linear(x_NxCxSxS.flatten(1))))

    def load_painterjax(self, params: dict[str, Any], stats: dict[str, Any]) -> None:
        """Takes over a painterjax network's parameters and BatchNorm statistics."""
        load(self, from_painterjax(params, stats))


def conv_blocks(widths: Sequence[int], depths: Sequence[int]) -> nn.ModuleList:
    """Returns blocks of `depth` times convolution, BatchNorm and ReLU."""
    blocks, channels = nn.ModuleList(), 3
    for width, depth in zip(widths, depths, strict=True):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        blocks.append(nn.Sequential(*layers))
    return blocks


def load(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Gives a module all its arrays but BatchNorm's counters, which nothing reads."""
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    assert not unexpected, unexpected


def blocks_from_painterjax(params: dict[str, Any], stats: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of painterjax's blocks under the names and in the layouts of ours."""
    arrays: dict[str, np.ndarray] = {}
    for place, block in params["backbone"]["blocks"].items():
        for i, conv in block["convs"].items():
            norm, running = block["norms"][i], stats["backbone"]["blocks"][place]["norms"][i]
            name = f"blocks.{place}.{{}}.{{}}".format
            layer = 3 * int(i)
            arrays[name(layer, "weight")] = np.transpose(conv["kernel"], (3, 2, 0, 1))
            arrays[name(layer + 1, "weight")] = norm["scale"]
            arrays[name(layer + 1, "bias")] = norm["bias"]
            arrays[name(layer + 1, "running_mean")] = running["mean"]
            arrays[name(layer + 1, "running_var")] = running["var"]
    return arrays


def from_painterjax(params: dict[str, Any], stats: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns painterjax's arrays under the names and in the layouts of StyleNet."""
    arrays = blocks_from_painterjax(params, stats)
    head, channels = params["head"], WIDTHS[-1]
    kernel_FxD = np.asarray(head["linear"]["kernel"])
    side = int((len(kernel_FxD) // channels) ** 0.5)
    # PyTorch flattens channels first, painterjax last.
    kernel_HxWxCxD = kernel_FxD.reshape(side, side, channels, -1)
    weight_DxF = kernel_HxWxCxD.transpose(3, 2, 0, 1).reshape(-1, len(kernel_FxD))
    arrays |= {"linear.weight": weight_DxF, "linear.bias": head["linear"]["bias"]}
    arrays |= {"norm.weight": head["norm"]["scale"], "norm.bias": head["norm"]["bias"]}
    return tensors(arrays)


def tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns copies of arrays as tensors."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def train_step(
    network: StyleNet,
    optimizer: torch.optim.Optimizer,
    branches: list[torch.Tensor],
    different_B: torch.Tensor | None,
    *,
    margin: float,
    bfloat16: bool = False,
) -> torch.Tensor:
    """Takes one step on triplets, or on pairs where `different_B` is given; returns the loss.

    Each branch (N x 3 x S x S) is a forward call of its own, as in the reference solution; with
    `bfloat16` its convolutions and matrix products are rounded, and nothing else.
    """
    optimizer.zero_grad()
    with torch.autocast(branches[0].device.type, torch.bfloat16, enabled=bfloat16):
        embeddings = [network(image_BxCxSxS) for image_BxCxSxS in branches]
    if different_B is None:
        loss = nn.functional.triplet_margin_loss(*embeddings, margin=margin, eps=0)
    else:
        distance_B = nn.functional.pairwise_distance(*embeddings, eps=0)
        sign_B = 1 - 2 * different_B.to(distance_B.dtype)
        hinge_B = nn.functional.hinge_embedding_loss(
            distance_B, sign_B, margin=margin, reduction="none"
        )
        loss = (hinge_B**2 / 2).mean()
    loss.backward()
    optimizer.step()
    return loss.detach()
