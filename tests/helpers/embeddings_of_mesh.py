"""The embeddings of a store's images: what any number of devices must agree on."""

import dataclasses
from typing import Any

import jax
import numpy as np

from painterjax.data import store
from painterjax.model.embedder import untrained
from tests.helpers import steps_of_mesh

EACH = 2  # images that each device embeds at a time
COUNTS = (1, 7, 36)  # fewer than the devices; not a multiple of them; several batches


def of_all_counts(image_NxSxSxC: np.ndarray, dtype: str, head: str) -> dict[str, Any]:
    """The first images' embeddings, the rows that were read, and each device's share of a batch."""
    config = steps_of_mesh.small("triplet", dtype, "host")
    config.model.update(head=head, widths=(4,))
    config.eval.batch_size = EACH
    arrays: dict[str, Any] = {"share": []}
    with jax.enable_x64(dtype == "float64"):
        start = untrained(config, image_size=image_NxSxSxC.shape[1])

        def step(*arguments: Any) -> jax.Array:
            emb_BxD = start.step(*arguments)
            arrays["share"].append([len(shard.data) for shard in emb_BxD.addressable_shards])
            return emb_BxD

        # Fresh networks are float32.
        params, stats = jax.tree.map(lambda x: x.astype(dtype), (start.params, start.stats))
        embedder = dataclasses.replace(start, step=step, params=params, stats=stats)
        for count in COUNTS:
            images = steps_of_mesh.watched(image_NxSxSxC[:count])
            arrays[f"emb/{count}"] = embedder.embed(images)
            arrays[f"read/{count}"] = np.concatenate(images.rows)
    return arrays


def all_cases(split: store.Split) -> dict[str, np.ndarray]:
    """All cases together, each array named `<head>/<type>/<what>`."""
    # Of eight pixels: then sums are so short that float32 adds them up to 1e-6.
    image_NxSxSxC = np.ascontiguousarray(split.image_NxSxSxC[:, ::4, ::4])
    return {
        f"{head}/{dtype}/{name}": np.asarray(array)
        for head in ("dense", "statistics")
        for dtype in ("float32", "float64")
        for name, array in of_all_counts(image_NxSxSxC, dtype, head).items()
    }
