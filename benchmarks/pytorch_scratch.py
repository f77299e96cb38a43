"""configs/scratch.py in PyTorch: its network, loss, optimizer, augmentation and training step.

What the recipe is told apart from its trainer with: tests show that it takes painterjax's steps.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, normalize

from benchmarks import pytorch_reference
from painterjax.common.config import Config

EPSILON = 1e-5


class StyleNet(nn.Module):
    """Blocks of convolutions; every block's statistics through LayerNorm and Linear to length 1."""

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.blocks = pytorch_reference.conv_blocks(settings.widths, settings.depths)
        self.norm = nn.LayerNorm(2 * sum(settings.widths))
        self.linear = nn.Linear(2 * sum(settings.widths), settings.embedding_dim)

    def forward(self, image_NxCxSxS: torch.Tensor) -> torch.Tensor:
        """Maps images in [-1, 1] to embeddings: N x 3 x S x S to N x D."""
        x_NxCxSxS, statistics = image_NxCxSxS, []
        for i, block in enumerate(self.blocks):
            x_NxCxSxS = block(max_pool2d(x_NxCxSxS, 2) if i else x_NxCxSxS)
            var_NxC, mean_NxC = torch.var_mean(x_NxCxSxS, (2, 3), correction=0)
            statistics += [mean_NxC, torch.sqrt(var_NxC + EPSILON)]
        emb_NxD = self.linear(self.norm(torch.cat(statistics, dim=1)))
        return emb_NxD * torch.rsqrt(emb_NxD.square().sum(dim=1, keepdim=True) + EPSILON)


class Classifier(nn.Module):
    """The network and a proxy of each artist."""

    def __init__(self, config: Config, num_artists: int) -> None:
        super().__init__()
        self.network = StyleNet(config.model)
        self.proxy_AxD = nn.Parameter(torch.zeros(num_artists, config.model.embedding_dim))
        self.scale = config.loss.scale

    def forward(self, image_NxCxSxS: torch.Tensor, artist_N: torch.Tensor) -> torch.Tensor:
        """Returns the cross-entropy of naming the artist by the cosines to the proxies."""
        cosine_NxA = normalize(self.network(image_NxCxSxS)) @ normalize(self.proxy_AxD).T
        return cross_entropy(self.scale * cosine_NxA, artist_N)


def from_painterjax(
    params: dict[str, Any], stats: dict[str, Any], proxies: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """Returns painterjax's arrays under the names and in the layouts of Classifier."""
    linear, norm = params["head"]["linear"], params["head"]["norm"]
    network = {
        **pytorch_reference.blocks_from_painterjax(params, stats),
        "norm.weight": norm["scale"],
        "norm.bias": norm["bias"],
        "linear.weight": linear["kernel"].T,
        "linear.bias": linear["bias"],
    }
    arrays = {f"network.{name}": array for name, array in network.items()}
    return pytorch_reference.tensors({**arrays, "proxy_AxD": proxies["artist"]})


class Optimizer:
    """AdamW with weight decay on kernels and proxies alone, and a cosine to zero, step by step."""

    def __init__(self, classifier: Classifier, settings: Any, *, num_steps: int) -> None:
        groups = [
            {
                "params": [p for p in classifier.parameters() if (p.ndim > 1) == decays],
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        self._adam = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._adam, num_steps)

    def step(self, loss: torch.Tensor) -> None:
        """Takes one step down a loss's gradient."""
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        self._schedule.step()


def augment(image_NxSxSxC: torch.Tensor, settings: Any) -> torch.Tensor:
    """The recipe's augmentation of uint8 images: float32 N x 3 x S x S."""
    count, size = image_NxSxSxC.shape[:2]
    side = settings.crop or size
    corner_2xN = torch.randint(0, size - side + 1, (2, count, 1))
    place_2xNxS = corner_2xN + torch.arange(side)
    if settings.flips:  # An image is mirrored as it is cut out.
        coin_2xNx1 = torch.rand(2, count, 1) < 0.5
        place_2xNxS = torch.where(coin_2xNx1, place_2xNxS.flip(2), place_2xNxS)
    row_NxSx1, column_Nx1xS = place_2xNxS[0][:, :, None], place_2xNxS[1][:, None]
    cut_NxSxSxC = image_NxSxSxC[torch.arange(count)[:, None, None], row_NxSx1, column_Nx1xS]
    # Permuted, it is channels_last already.
    return _recolor(cut_NxSxSxC.permute(0, 3, 1, 2).float() / 127.5 - 1, settings)


def _recolor(image_NxCxSxS: torch.Tensor, settings: Any) -> torch.Tensor:
    def draw(most: float, channels: int) -> torch.Tensor:
        return most * (2 * torch.rand(len(image_NxCxSxS), channels, 1, 1) - 1)

    mean_Nx1x1x1 = image_NxCxSxS.mean(dim=(1, 2, 3), keepdim=True)
    gain_Nx1x1x1 = 1 + draw(settings.contrast, 1)
    shift_NxCx1x1 = draw(settings.brightness, 1) + draw(settings.tint, 3)
    return (image_NxCxSxS - mean_Nx1x1x1) * gain_Nx1x1x1 + mean_Nx1x1x1 + shift_NxCx1x1
