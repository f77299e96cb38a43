"""Trains a recipe in PyTorch and judges it on artists never seen.

    python -m benchmarks.pytorch_learning --store data/paintings --recipe reference --minutes 10
        --seed 0 --json FILE
    python -m benchmarks.pytorch_learning --store data/paintings-80 --recipe scratch
        --seed 0 --json FILE [--config.key=value ...]

The published reference trains for some minutes, and is judged with its last weights; its learning
rate stays what it is up to the recipe's first milestone, epoch 11. configs/scratch.py trains all
its epochs, from painterjax's own first weights, and is judged with those of the epoch that was best
on validation, as painterjax.train does it.

The images are in memory, painterjax.data.sampling draws the tuples, and the layout is
channels_last. The minutes of training leave out judging, imports and painterjax's first weights.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

from benchmarks import pytorch_reference, pytorch_scratch
from configs import default, scratch
from painterjax.common import cli
from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.data.store import Split, Store, open_store
from painterjax.metrics import evaluator
from painterjax.model.build import build_network
from painterjax.run.checkpoint import BEST_BY
from painterjax.training import trainer

BATCH_SIZE = 64  # of judging
JUDGED_EVERY_MIN = 2.0


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--recipe", choices=("reference", "scratch"), default="reference")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the reference's training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    args, flags = parser.parse_known_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    store = open_store(args.store)
    if args.recipe == "reference":
        config = default.get_config()
        learned = learn_reference(store, config, minutes=args.minutes, seed=args.seed)
    else:
        argv = ["--config=scratch", f"--config.seed={args.seed}", *flags]
        config, _ = cli.config_and_options(argv, doc="", required={})
        learned = learn_scratch(store, config)
    args.json.write_text(json.dumps(learned, indent=2) + "\n")


class Trained:
    """A network in training, with the seconds and the steps that it took.

    Args:
      network: embeds images.
      config: what it is trained with.
      store: what it is judged on.
    """

    def __init__(self, network: nn.Module, config: Config, store: Store) -> None:
        self.network, self.seconds, self.steps = network, 0.0, 0
        self._config, self._store = config, store
        goal = trainer.objective(config, config.loss.name)
        self.steps_per_epoch = goal.steps_per_epoch(len(store.splits["train"]), config.batch_size)
        self._images_per_step = config.batch_size * goal.tuple_size
        self._untrained = self._judge()

    def take(self, step: Iterator[Any]) -> None:
        """Takes a step, with the clock running."""
        started_s = time.perf_counter()
        next(step)
        self.seconds, self.steps = self.seconds + time.perf_counter() - started_s, self.steps + 1

    def quickly(self, name: str) -> dict[str, float]:
        """Returns where training stands, and the figures of a split without intervals."""
        split = self._store.splits[name]
        row_Tx3 = evaluator.fixed_triplets(split, count=self._config.eval.triplets)
        figures = evaluator.evaluate_quickly(embed(self.network, split), split.artist_N, row_Tx3)
        stand = {"minutes": self.seconds / 60, "step": self.steps, **figures}
        print(json.dumps(stand), flush=True)
        return stand

    def result(self) -> dict[str, Any]:
        """Returns what training took, what it saw, and the figures on artists never seen."""
        config, test = self._config, self._store.splits["test"]
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "minutes_of_training": self.seconds / 60,
            "steps": self.steps,
            "images_per_s": self._images_per_step * self.steps / self.seconds,
            "epochs": self.steps / self.steps_per_epoch,
            "pixels_trained": config.augmentation.crop or self._store.image_size,
            "pixels_judged": self._store.image_size,
            "paintings": len(test),
            "artists": len(test.artists),
            **self._judge(),
            "untrained": self._untrained,
        }

    def _judge(self) -> dict[str, Any]:
        test = self._store.splits["test"]
        row_Tx3 = evaluator.fixed_triplets(test, count=self._config.eval.triplets)
        return evaluator.evaluate(
            evaluator.compare(embed(self.network, test), test.artist_N), row_Tx3
        )


def learn_reference(store: Store, config: Config, *, minutes: float, seed: int) -> dict[str, Any]:
    """Trains the reference; returns also the curve of figures by minutes and steps."""
    network = pytorch_reference.StyleNet(image_size=store.image_size)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained, curve = Trained(network, config, store), []
    train = store.splits["train"]
    steps = _reference_steps(network, _in_memory(train), train, config, seed)
    while trained.seconds < 60 * minutes:
        trained.take(steps)
        passed_min = trained.seconds / 60
        if passed_min > JUDGED_EVERY_MIN * (len(curve) + 1) or passed_min > minutes:
            curve.append(trained.quickly("test"))
    return {**trained.result(), "recipe_epochs": config.num_epochs, "curve": curve}


def _reference_steps(
    network: pytorch_reference.StyleNet,
    images: torch.Tensor,
    train: Split,
    config: Config,
    seed: int,
) -> Iterator[torch.Tensor]:
    """Takes steps without end; yields the loss of each."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    artists, step = sampling.artist_rows(train.artist_N), 0
    while True:
        row_Bx3 = sampling.triplets(artists, batch_size=config.batch_size, seed=seed, index=step)
        branches = [
            augment(images[torch.from_numpy(row_B)], config.augmentation) for row_B in row_Bx3.T
        ]
        margin = config.loss.margin
        yield pytorch_reference.train_step(network, optimizer, branches, None, margin=margin)
        step += 1


def learn_scratch(store: Store, config: Config) -> dict[str, Any]:
    """Trains configs/scratch.py; returns also the figures of validation by epoch."""
    train = store.splits["train"]
    _, params, stats = build_network(config, image_size=config.augmentation.crop)
    proxies = trainer.initial_proxies(config, num_artists=len(train.artists))
    classifier = pytorch_scratch.Classifier(config, len(train.artists))
    first = pytorch_scratch.from_painterjax(params, stats, proxies)
    pytorch_reference.load(classifier, first)
    classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained, best, curve = Trained(classifier.network, config, store), {}, []
    num_steps = config.num_epochs * trained.steps_per_epoch
    steps = _scratch_steps(classifier, _in_memory(train), train, config, num_steps)
    for _ in range(config.num_epochs):
        for _ in range(trained.steps_per_epoch):
            trained.take(steps)
        curve.append(trained.quickly("val"))
        if curve[-1][BEST_BY] == max(figures[BEST_BY] for figures in curve):
            best = copy.deepcopy(classifier.network.state_dict())
    classifier.network.load_state_dict(best)
    recipe_epochs = scratch.get_config().num_epochs
    return {**trained.result(), "recipe_epochs": recipe_epochs, "val_curve": curve}


def _scratch_steps(
    classifier: pytorch_scratch.Classifier,
    images: torch.Tensor,
    train: Split,
    config: Config,
    num_steps: int,
) -> Iterator[torch.Tensor]:
    """Takes steps; yields the loss of each."""
    optimizer = pytorch_scratch.Optimizer(classifier, config.optimizer, num_steps=num_steps)
    artists = sampling.artist_rows(train.artist_N)
    sample = trainer.objective(config, config.loss.name).sample
    for step in range(num_steps):
        row_PxK = sample(artists, batch_size=config.batch_size, seed=config.seed, index=step)
        row_N = row_PxK.reshape(-1)
        image_NxCxSxS = pytorch_scratch.augment(images[row_N], config.augmentation)
        artist_N = torch.from_numpy(train.artist_N[row_N].astype(np.int64))
        loss = classifier(image_NxCxSxS, artist_N)
        optimizer.step(loss)
        yield loss.detach()


def _in_memory(split: Split) -> torch.Tensor:
    return torch.from_numpy(np.array(split.image_NxSxSxC))


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
def embed(network: nn.Module, split: Split) -> np.ndarray:
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
