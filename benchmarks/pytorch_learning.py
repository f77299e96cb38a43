"""Trains the reference recipe in PyTorch for some minutes and judges it on artists never seen.

    python -m benchmarks.pytorch_learning --store data/paintings --minutes 10 --seed 0 --json FILE

The clock runs while it trains and stands while it judges, imports and compiles nothing: its images
are in memory, its triplets are drawn by painterjax.sampling, its layout is channels_last. Its
learning rate stays what it is up to the recipe's first milestone, epoch 11.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from benchmarks import pytorch_reference
from configs import default
from painterjax.data import sampling
from painterjax.data.store import Split, open_store
from painterjax.metrics import evaluator

BATCH_SIZE = 64  # of judging
JUDGED_EVERY_MIN = 2.0


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    splits = open_store(args.store).splits
    figures = learn(splits["train"], splits["test"], minutes=args.minutes, seed=args.seed)
    args.json.write_text(json.dumps(figures, indent=2) + "\n")


def learn(train: Split, test: Split, *, minutes: float, seed: int) -> dict[str, Any]:
    """Returns the curve of figures by minutes and steps, and the last ones with intervals."""
    recipe = default.get_config()
    network = pytorch_reference.StyleNet(image_size=train.image_NxSxSxC.shape[1])
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.optimizer.learning_rate)
    images, artists = (
        torch.from_numpy(np.array(train.image_NxSxSxC)),
        sampling.artist_rows(train.artist_N),
    )
    row_Tx3 = evaluator.fixed_triplets(test, count=recipe.eval.triplets)
    trained_s, step, curve = 0.0, 0, []
    while trained_s < 60 * minutes:
        started_s = time.perf_counter()
        row_Bx3 = sampling.triplets(artists, batch_size=recipe.batch_size, seed=seed, index=step)
        branches = [
            augment(images[torch.from_numpy(row_B)], recipe.augmentation) for row_B in row_Bx3.T
        ]
        pytorch_reference.train_step(network, optimizer, branches, None, margin=recipe.loss.margin)
        trained_s, step = trained_s + time.perf_counter() - started_s, step + 1
        if trained_s > 60 * JUDGED_EVERY_MIN * (len(curve) + 1) or trained_s > 60 * minutes:
            figures = evaluator.evaluate_quickly(embed(network, test), test.artist_N, row_Tx3)
            curve.append({"minutes": trained_s / 60, "step": step, **figures})
            print(json.dumps(curve[-1]), flush=True)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "minutes": trained_s / 60,
        "steps": step,
        "images_per_s": 3 * recipe.batch_size * step / trained_s,
        "curve": curve,
        "test": evaluator.evaluate(evaluator.compare(embed(network, test), test.artist_N), row_Tx3),
    }


def augment(image_NxSxSxC: torch.Tensor, settings: Any) -> torch.Tensor:
    """The reference's augmentation of uint8 images: float32 N x 3 x S x S in [-1, 1]."""
    count = len(image_NxSxSxC)
    image_NxCxSxS = image_NxSxSxC.permute(0, 3, 1, 2).float() / 127.5 - 1
    angle_N = torch.deg2rad(torch.rand(count) * settings.rotation)
    low, high = settings.scale
    scale_N = low + (high - low) * torch.rand(count)
    mirror_2xN = 1 - 2 * torch.randint(0, 2, (2, count)) if settings.flips else torch.ones(2, count)
    cos_N, sin_N = torch.cos(angle_N) / scale_N, torch.sin(angle_N) / scale_N
    shift_2xN = 2 * settings.shift * (2 * torch.rand(2, count) - 1)
    rows = [
        torch.stack([cos_N * mirror_2xN[0], -sin_N * mirror_2xN[1], shift_2xN[0]], dim=1),
        torch.stack([sin_N * mirror_2xN[0], cos_N * mirror_2xN[1], shift_2xN[1]], dim=1),
    ]
    grid = affine_grid(torch.stack(rows, dim=1), list(image_NxCxSxS.shape), align_corners=False)
    warped = grid_sample(image_NxCxSxS, grid, padding_mode="reflection", align_corners=False)
    return warped.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def embed(network: pytorch_reference.StyleNet, split: Split) -> np.ndarray:
    """Embeds a split with BatchNorm's running statistics: float32 N x D."""
    network.eval()
    parts = []
    for start in range(0, len(split), BATCH_SIZE):
        image_NxSxSxC = torch.from_numpy(np.array(split.image_NxSxSxC[start : start + BATCH_SIZE]))
        parts.append(network(image_NxSxSxC.permute(0, 3, 1, 2).float() / 127.5 - 1).numpy())
    network.train()
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
