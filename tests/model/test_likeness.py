"""Heat maps: on pictures of which half is by another painter, and against plain sums."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import default
from painterjax.data import synthetic
from painterjax.distributed import sharding
from painterjax.model import embedder, likeness
from painterjax.model.augment import normalize
from painterjax.model.embedder import Embedder
from painterjax.training import lda
from tests.helpers import tiny_transformer

SIZE, ARTISTS, PAINTINGS = 64, 6, 12
WIDTHS = (16, 32, 32)


def _paint(artist: int, painting: int) -> np.ndarray:
    return synthetic.paint(seed=0, artist=artist, painting=painting, size=SIZE)


@pytest.fixture(scope="module")
def network() -> Embedder:
    """A head fitted to what random convolutions make of synthetic painters."""
    config = default.get_config()
    config.model.update(head="linear", widths=WIDTHS, depths=(1, 1, 1), embedding_dim=ARTISTS - 1)
    image_NxSxSxC = np.stack([_paint(*each) for each in np.ndindex(ARTISTS, PAINTINGS)])
    feature_NxF = embedder.feature_reader(config, image_size=SIZE).embed(image_NxSxSxC)
    artist_N = np.repeat(np.arange(ARTISTS), PAINTINGS)
    fitted = lda.fit(lda.scatter(feature_NxF, artist_N), shrinkage=0.5)
    start = embedder.untrained(config, image_size=SIZE)
    linear = {"kernel": fitted.kernel_FxD, "bias": fitted.bias_D}
    linear = sharding.replicate(start.mesh, linear)
    return dataclasses.replace(start, params={**start.params, "head": {"linear": linear}})


def test_the_half_by_the_same_painter_makes_two_pictures_alike(network):
    right = total = 0
    for first, second in itertools.permutations(range(ARTISTS), 2):
        halves = np.concatenate(
            [_paint(first, 20)[:, : SIZE // 2], _paint(second, 20)[:, SIZE // 2 :]], axis=1
        )
        for artist in (first, second):
            pair = np.stack([halves, _paint(artist, 21)])
            _, map_2xMxM = likeness.likeness(network, pair)
            left, other = np.split(map_2xMxM[0], 2, axis=1)
            right += (left.mean() > other.mean()) == (artist == first)
            total += 1
    assert right >= 0.7 * total  # By chance 42 or more of 60 halves are right once in 760 times.


def test_a_place_adds_what_it_adds_to_means_and_deviations(network):
    """They are sums over n places, of x / n and of (x - mean)^2 / (n deviation)."""
    image_2xSxSxC = np.stack([_paint(0, 30), _paint(1, 30)])
    cosine, map_2xMxM = likeness.likeness(network, image_2xSxSxC)
    emb_2xD = network.embed(image_2xSxSxC)
    assert cosine == pytest.approx(float(emb_2xD[0] @ emb_2xD[1]), abs=1e-5)
    merged = nnx.merge(network.network, network.params, network.stats)
    stages = merged.backbone(normalize(jnp.asarray(image_2xSxSxC)), branches=None)
    feature_2xF = merged.read(stages)

    def of_features(feature_2xF: jax.Array) -> jax.Array:
        emb_2xD = merged.head(feature_2xF)
        return (emb_2xD[0] @ emb_2xD[1]) / np.prod(jnp.linalg.norm(emb_2xD, axis=1))

    ends = np.cumsum(np.repeat(WIDTHS, 2))[:-1]
    slopes = np.split(np.asarray(jax.grad(of_features)(feature_2xF)), ends, axis=1)
    deviations = np.split(np.asarray(feature_2xF), ends, axis=1)[1::2]
    expected = np.zeros_like(map_2xMxM)
    for number, stage in enumerate(map(np.asarray, stages)):
        rest = stage - stage.mean((1, 2), keepdims=True)
        by_mean, by_deviation = (slope[:, None, None] for slope in slopes[2 * number :][:2])
        added = rest * by_mean + rest**2 / deviations[number][:, None, None] * by_deviation
        places = jax.image.resize(added.sum(-1), map_2xMxM.shape, "linear")
        expected += np.asarray(places) / map_2xMxM[0].size
    # Sums of 80 channels and 64 pixels a place, in float32.
    np.testing.assert_allclose(map_2xMxM, expected, atol=1e-5 * np.abs(expected).max())


def test_a_token_adds_what_the_cosine_loses_without_it(monkeypatch):
    """A place of the map is a patch, in the order of the picture; the class token has none."""
    tiny_transformer.install(monkeypatch)
    config, patch = default.get_config(), tiny_transformer.ARCHITECTURE.patch
    side, last = 4 * patch, tiny_transformer.ARCHITECTURE.depth - 1
    config.model.update(backbone=tiny_transformer.NAME, weights="a file", stages=(last,))
    config.model.update(head="linear", embedding_dim=8)
    start = embedder.untrained(config, image_size=side)
    image_2xSxSxC = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    cosine, map_2xMxM = likeness.likeness(start, image_2xSxSxC)
    merged = nnx.merge(start.network, start.params, start.stats)
    stages = merged.backbone(normalize(jnp.asarray(image_2xSxSxC)), branches=None)

    @jax.jit
    def cosine_of(token_2xTxC: jax.Array) -> jax.Array:
        emb_2xD = merged.head(merged.read([token_2xTxC]))
        return (emb_2xD[0] @ emb_2xD[1]) / jnp.prod(jnp.linalg.norm(emb_2xD, axis=1))

    token_2xTxC, share = stages[last], 2**-7
    assert float(cosine_of(token_2xTxC)) == pytest.approx(cosine, abs=1e-5)
    rest_2xTxC = token_2xTxC - token_2xTxC.mean(1, keepdims=True)
    for picture, row, column in np.ndindex(2, 4, 4):
        place = picture, token_2xTxC.shape[1] - 16 + 4 * row + column
        more, less = (
            cosine_of(token_2xTxC.at[place].add(sign * share * rest_2xTxC[place]))
            for sign in (1, -1)
        )
        # Differences of cosines of 6e-8; the third derivative, by 2^-14, is smaller.
        added = float(more - less) / (2 * share)
        assert map_2xMxM[picture, row, column] == pytest.approx(added, abs=1e-4)
