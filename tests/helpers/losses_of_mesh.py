"""Losses over all pairs of a batch, divided among the devices: values, gradients, memory."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from painterjax.distributed import compilation, sharding
from painterjax.losses import objectives
from tests.helpers.memory import temporary_bytes

ARTISTS, PAINTINGS, FEATURES = 64, 4, 6
COUNT = ARTISTS * PAINTINGS
IN_BATCH = [name for name, loss in objectives.LOSSES.items() if loss.in_batch]


def _arrays() -> list[np.ndarray]:
    """Embeddings, second views, proxies, artists and rows; each painting is there twice."""
    rng = np.random.default_rng(0)
    row_BxT = np.arange(COUNT).reshape(ARTISTS, PAINTINGS)
    points = [rng.normal(size=(*row_BxT.shape, FEATURES)) for _ in range(2)]
    return [*points, rng.normal(size=(ARTISTS, FEATURES)), row_BxT // PAINTINGS, row_BxT // 2]


def take(name: str) -> dict[str, Any]:
    """All scalars and gradients of a loss and of second views, the bytes and the whole tables."""
    mesh = sharding.of_all_devices()
    built = objectives.build(
        name=name, margin=0.3, distance="euclidean", scale=8.0, paintings_per_artist=PAINTINGS,
        mesh=mesh,
    )  # fmt: skip
    goal = dataclasses.replace(built, view_weight=0.5, scale=8.0, mesh=mesh)

    def loss(learned: Any, artist_BxT: jax.Array, row_BxT: jax.Array) -> Any:
        emb_BxTxD, second_BxTxD, proxy_AxD = learned
        scalars = goal.scalars(emb_BxTxD, artist_BxT, row_BxT, {"artist": proxy_AxD})
        first_NxD, second_NxD = (x.reshape(COUNT, FEATURES) for x in (emb_BxTxD, second_BxTxD))
        scalars = goal.with_views(scalars, first_NxD, second_NxD, row_BxT.reshape(-1))
        return scalars["loss"], scalars

    with jax.enable_x64(True):
        *learned, artist_BxT, row_BxT = sharding.replicate(mesh, _arrays())
        gradient: Any = compilation.jit(
            jax.grad(loss, has_aux=True), out_shardings=sharding.replicated(mesh)
        )
        lowered = gradient.lower(learned, artist_BxT, row_BxT)
        program = lowered.compile()
        gradients, scalars = jax.device_get(program(learned, artist_BxT, row_BxT))
    named = dict(zip(("emb", "second", "proxy"), gradients, strict=True)) | scalars
    whole = re.findall(rf"\[(?:1,)*{COUNT},{COUNT}\b", str(program.as_text()))
    return named | {"bytes": temporary_bytes(lowered), "tables": len(whole)}


def names(processes: int) -> list[str]:
    """All losses; of several processes, which compile all anew, one of pairs and one of proxies."""
    return IN_BATCH if processes == 1 else ["batch_all", "cosine_classifier"]


def all_cases(_: Any) -> dict[str, np.ndarray]:
    """Losses over batches together, each array named `<loss>/<what>`."""
    return {
        f"{name}/{what}": np.asarray(array)
        for name in names(jax.process_count())
        for what, array in take(name).items()
    }
