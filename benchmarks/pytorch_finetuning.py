"""configs/finetuned.py in PyTorch: its network, optimizer and training step, and a whole training.

    python -m benchmarks.pytorch_finetuning --store data/paintings-224 --json FILE

The network is the published port of EfficientNet-Lite in channels_last. Its head begins as
scikit-learn's LinearDiscriminantAnalysis of the features, as benchmarks.pytorch_pretrained fits it.
The images are in memory, and painterjax.data.sampling draws the batches. As painterjax.train does,
it validates after each epoch, judges the best epoch, and takes validation paintings as queries
against those of training. It leaves out intervals, floors and checkpoints.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

from benchmarks import pytorch_pretrained, pytorch_scratch
from configs import finetuned
from painterjax.common.config import Config
from painterjax.data import sampling
from painterjax.data.store import Store, open_store
from painterjax.metrics import evaluator
from painterjax.model.layers import EPSILON
from painterjax.run import queries
from painterjax.training import trainer


class Network(nn.Module):
    """Means and deviations of the channels of stages, mapped to length 1, and artists' proxies."""

    def __init__(self, config: Config, *, image_size: int, num_artists: int) -> None:
        super().__init__()
        name, dim = config.model.backbone, config.model.embedding_dim
        self.port: Any = pytorch_pretrained.load(name, image_size=image_size)
        self.ends = pytorch_pretrained.ends_of(self.port, config.model.stages)
        channels = [self.port._blocks[end - 1]._bn2.num_features for end in self.ends]
        self.linear = nn.Linear(2 * sum(channels), dim)
        self.proxy_AxD = nn.Parameter(torch.randn(num_artists, dim) / dim**0.5)
        self.scale = config.loss.scale

    def read(self, image_NxCxSxS: torch.Tensor) -> torch.Tensor:
        """Returns the features of images in [-1, 1]: N x F."""
        x_NxCxHxW = self.port._conv_stem((image_NxCxSxS * 127.5 + 0.5) / 128)
        x_NxCxHxW = self.port._swish(self.port._bn0(x_NxCxHxW))
        statistics = []
        for number, block in enumerate(self.port._blocks[: max(self.ends)], start=1):
            x_NxCxHxW = block(x_NxCxHxW)
            if number in self.ends:
                precise = torch.promote_types(x_NxCxHxW.dtype, torch.float32)
                var_NxC, mean_NxC = torch.var_mean(x_NxCxHxW.to(precise), (2, 3), correction=0)
                statistics += [mean_NxC, torch.sqrt(var_NxC + EPSILON)]
        return torch.cat(statistics, dim=1)

    def forward(self, image_NxCxSxS: torch.Tensor) -> torch.Tensor:
        """Maps images in [-1, 1] to embeddings: N x 3 x S x S to N x D."""
        emb_NxD = self.linear(self.read(image_NxCxSxS))
        return emb_NxD * torch.rsqrt(emb_NxD.square().sum(dim=1, keepdim=True) + EPSILON)

    def loss(self, image_NxCxSxS: torch.Tensor, artist_N: torch.Tensor) -> torch.Tensor:
        """Returns the cross-entropy of naming the artist by the cosines to the proxies."""
        cosine_NxA = normalize(self(image_NxCxSxS)) @ normalize(self.proxy_AxD).T
        return cross_entropy(self.scale * cosine_NxA, artist_N)


class Optimizer:
    """AdamW by part, with clipping, warm-up, a cosine to zero, and a mean of the weights.

    Attributes:
      average: the network with the mean of the weights behind all steps.
    """

    def __init__(self, network: Network, settings: Any, *, num_steps: int) -> None:
        self._network, decay = network, settings.ema_decay
        self.average: Any = AveragedModel(
            network,
            avg_fn=lambda average, weight, count: average.lerp(
                weight, (1 - decay) / (1 - decay ** (count + 1))
            ),
        )
        backbone = {id(parameter) for parameter in network.port.parameters()}
        groups = [
            {
                "params": [
                    each
                    for each in network.parameters()
                    if (id(each) in backbone) == is_backbone and (each.ndim > 1) == decays
                ],
                "lr": settings.learning_rate * (settings.backbone_rate if is_backbone else 1),
                "weight_decay": settings.weight_decay * decays,
            }
            for is_backbone in (True, False)
            for decays in (True, False)
        ]
        self._parameters = [each for group in groups for each in group["params"]]
        self._clip_norm = settings.clip_norm
        self._adam = torch.optim.AdamW(groups, fused=True)
        warmup = settings.warmup_steps
        self._schedules = [
            lr_scheduler.LinearLR(self._adam, 1 / warmup, total_iters=warmup - 1),
            lr_scheduler.CosineAnnealingLR(self._adam, num_steps),
        ]

    def step(self, loss: torch.Tensor) -> None:
        """Takes one step down a loss's gradient."""
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._adam.step()
        self.average.update_parameters(self._network)
        for schedule in self._schedules:
            schedule.step()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    config = finetuned.get_config()
    config.seed = args.seed
    args.json.write_text(json.dumps(learn(open_store(args.store), config), indent=2) + "\n")


def learn(store: Store, config: Config) -> dict[str, Any]:
    """Trains on the training paintings; returns the figures on the test paintings."""
    train, val = store.splits["train"], store.splits["val"]
    network = Network(config, image_size=store.image_size, num_artists=len(train.artists))
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fit_head(network, store, config)
    goal = trainer.objective(config, config.loss.name)
    steps_per_epoch = goal.steps_per_epoch(len(train), config.batch_size)
    num_steps = config.num_epochs * steps_per_epoch
    optimizer = Optimizer(network, config.optimizer, num_steps=num_steps)
    images = torch.from_numpy(np.array(train.image_NxSxSxC))
    artists = sampling.artist_rows(train.artist_N)
    row_Vx3 = evaluator.fixed_triplets(val, count=config.eval.triplets)
    best_roc_auc, best = -np.inf, {}
    for step in range(num_steps):
        row_PxK = goal.sample(artists, batch_size=config.batch_size, seed=config.seed, index=step)
        row_N = row_PxK.reshape(-1)
        image_NxCxSxS = pytorch_scratch.augment(images[row_N], config.augmentation)
        loss = network.loss(image_NxCxSxS, torch.from_numpy(train.artist_N[row_N].astype(np.int64)))
        optimizer.step(loss)
        if (step + 1) % steps_per_epoch == 0:
            emb_VxD = embed(optimizer.average, val.image_NxSxSxC)
            roc_auc = evaluator.evaluate_quickly(emb_VxD, val.artist_N, row_Vx3)["roc_auc"]
            if roc_auc > best_roc_auc:
                best_roc_auc, best = roc_auc, copy.deepcopy(optimizer.average.state_dict())
    optimizer.average.load_state_dict(best)
    return judge(optimizer.average, store, config)


def judge(network: nn.Module, store: Store, config: Config) -> dict[str, Any]:
    """Returns figures on the test paintings, and on those of validation as queries."""
    test = store.splits["test"]
    emb_by_split = {name: embed(network, each.image_NxSxSxC) for name, each in store.splits.items()}
    row_Tx3 = evaluator.fixed_triplets(test, count=config.eval.triplets)
    compared = evaluator.compare(emb_by_split["test"], test.artist_N)
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "paintings": len(test),
        "artists": len(test.artists),
        **evaluator.evaluate(compared, row_Tx3),
        "queries": queries.judge(store, "val", emb_by_split, most=config.eval.max_paintings),
    }


@torch.no_grad()
def fit_head(network: Network, store: Store, config: Config) -> None:
    """Starts the head as the discriminant analysis, and the proxies as the artists' means."""
    train = store.splits["train"]
    feature_NxF = pytorch_pretrained.read(network.port, train, config.model.stages)
    shrinkage, dim = pytorch_pretrained.choose(
        feature_NxF, train.artist_N, most=config.model.embedding_dim
    )
    project = pytorch_pretrained.fit(feature_NxF, train.artist_N, shrinkage)
    origin, axes = (
        project(each)[:, :dim]
        for each in (np.zeros((1, feature_NxF.shape[1])), np.eye(feature_NxF.shape[1]))
    )
    for parameter in (network.linear.weight, network.linear.bias, network.proxy_AxD):
        parameter.zero_()
    network.linear.weight[:dim] = torch.from_numpy((axes - origin).T)
    network.linear.bias[:dim] = torch.from_numpy(origin[0])
    emb_NxD = normalize(network.linear(torch.from_numpy(feature_NxF)))
    network.proxy_AxD.index_add_(0, torch.from_numpy(train.artist_N.astype(np.int64)), emb_NxD)
    network.proxy_AxD.copy_(normalize(network.proxy_AxD))


@torch.no_grad()
def embed(network: nn.Module, image_NxSxSxC: np.ndarray) -> np.ndarray:
    """Embeds images: float32 N x D."""
    parts = []
    for start in range(0, len(image_NxSxSxC), pytorch_pretrained.BATCH_SIZE):
        batch = np.array(image_NxSxSxC[start : start + pytorch_pretrained.BATCH_SIZE])
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts.append(network(pixels).numpy())
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
