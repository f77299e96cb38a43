"""A network for other programs: StableHLO, and weights in safetensors."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import safetensors
import safetensors.numpy

from painterjax.common import files
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.metrics.calibration import Calibration
from painterjax.model.build import PureDict, embed_step
from painterjax.model.embedder import Embedder, untrained
from painterjax.run import config_checks
from painterjax.run import embed as run_embed
from painterjax.run import folder as run_folder
from painterjax.run.evaluation import read_calibration

FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda")
STABLEHLO, WEIGHTS, PAPER = "embedder.stablehlo", "weights.safetensors", "embedder.json"
LOADING = {
    STABLEHLO: [
        "import jax, jax.export",
        "serialized = open('embedder.stablehlo', 'rb').read()",
        "embed = jax.jit(jax.export.deserialize(serialized).call)",
        "emb_NxD = embed(image_NxSxSxC)  # uint8 RGB: upright, the center square, bicubic",
        "# of Euclidean distances: probability = 1 / (1 + exp(slope * distance - offset))",
    ],
    WEIGHTS: ["import painterjax", "emb_NxD = painterjax.load('.').embed(paths)"],
}


def export(run: Path, output: Path) -> None:
    """Writes a run's best network to a new folder; work in progress lies in `<output>.partial`."""
    embedder, origin = run_embed.of_run(run)
    serialized = stablehlo(embedder)
    calibration = read_calibration(run, step=origin["step"])
    paper = {
        "format_version": FORMAT_VERSION,
        **origin,
        "image_size": embedder.image_size,
        "embedding_dim": serialized.out_avals[0].shape[1],
        "calibration": calibration and dataclasses.asdict(calibration),
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "loading": LOADING,
        "config": run_folder.read_config(run).to_dict(),
    }
    partial = output.with_name(output.name + ".partial")
    files.begin_work(partial, origin)
    with files.claimed(partial):
        folder = partial / "whole"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / STABLEHLO).write_bytes(serialized.serialize())
        weights = jax.device_get(_by_name(embedder))
        (folder / WEIGHTS).write_bytes(safetensors.numpy.save(weights))
        files.write_json(folder / PAPER, paper)
        folder.rename(output)
    shutil.rmtree(partial)


def stablehlo(embedder: Embedder) -> jax.export.Exported:
    """Lowers an embedder with its weights: uint8 N x S x S x 3 to float32 N x D, for any N >= 1.

    Compiler options do not travel with it, and the caller's compiler rounds as it likes.
    """
    network = functools.partial(
        embed_step, embedder.params, embedder.stats, network=embedder.network
    )
    (count,) = jax.export.symbolic_shape("N")
    shape = (count, embedder.image_size, embedder.image_size, 3)
    lower = jax.export.export(jax.jit(network), platforms=PLATFORMS)
    return lower(jax.ShapeDtypeStruct(shape, jnp.uint8))


def load(folder: Path) -> tuple[Embedder, Calibration | None]:
    """Returns the network of an exported folder, built from its weights, and the calibration.

    Raises:
      InputError: the folder's files are of another version, damaged, or contradict each other.
    """
    try:
        paper: dict[str, Any] = json.loads((folder / PAPER).read_text())
        if paper["format_version"] != FORMAT_VERSION:
            found = f"has format version {paper['format_version']}, expected {FORMAT_VERSION}"
            raise InputError(f"{folder} {found}: export again")
        config = as_config(paper["config"])
        weights = safetensors.numpy.load_file(folder / WEIGHTS)
        calibration = paper["calibration"] and Calibration(**paper["calibration"])
        size = int(paper["image_size"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError, safetensors.SafetensorError) as e:
        raise InputError(f"{folder} is no whole export ({e!r}): export again") from e
    config_checks.check_keys(config)
    start = untrained(config, image_size=size)
    shapes = {name: array.shape for name, array in _by_name(start).items()}
    if shapes != {name: array.shape for name, array in weights.items()}:
        raise InputError(f"{folder}/{WEIGHTS} does not fit the config in {PAPER}: export again")
    network = _network(start)
    paths, structure = jax.tree.flatten_with_path(network)
    arrays = [jax.device_put(weights[_name(path)]) for path, _ in paths]
    return dataclasses.replace(start, **jax.tree.unflatten(structure, arrays)), calibration


def _network(embedder: Embedder) -> PureDict:
    return {"params": embedder.params, "stats": embedder.stats}


def _by_name(embedder: Embedder) -> dict[str, jax.Array]:
    """An embedder's arrays as params.blocks.0.convs.0.kernel and so on."""
    paths = jax.tree.leaves_with_path(_network(embedder))
    return {_name(path): array for path, array in paths}


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
