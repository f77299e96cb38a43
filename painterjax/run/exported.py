"""A network for other programs: StableHLO, and weights in safetensors."""

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import safetensors
import safetensors.numpy

from painterjax.common import checksums, files
from painterjax.common.config import as_config
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.distributed import compilation, sharding
from painterjax.metrics.attribution import Attribution
from painterjax.metrics.calibration import Calibration
from painterjax.model.build import array_name, arrays_by_name, embed_step
from painterjax.model.embedder import Embedder, untrained
from painterjax.run import config_checks, model_card
from painterjax.run.load import NETWORK, Run

FORMAT_VERSION = 2
PLATFORMS = ("cpu", "cuda")
STABLEHLO, WEIGHTS, MANIFEST = "embedder.stablehlo", "model.safetensors", "embedder.json"
CARD = "README.md"
LOADING = {
    STABLEHLO: [
        "import jax, jax.export",
        "serialized = open('embedder.stablehlo', 'rb').read()",
        "# On CPUs some sums of jax 0.10.2 are wrong without this option.",
        f"options = {compilation.WITHOUT_YNNPACK}",
        "embed = jax.jit(jax.export.deserialize(serialized).call, compiler_options=options)",
        "emb_NxD = embed(image_NxSxSxC)  # uint8, as preprocessing says",
        "# of Euclidean distances: probability = 1 / (1 + exp(slope * distance - offset))",
    ],
    WEIGHTS: ["import painterjax", "emb_NxD = painterjax.load('.').embed(paths)"],
}
PREPROCESSING = {
    "orientation": "upright by EXIF",
    "crop": "the largest square at the center",
    "resize": "to image_size x image_size, bicubic with antialiasing (PIL.ImageOps.fit)",
    "color": "sRGB by the file's profile, over white where it is transparent",
    "layout": "uint8, N x image_size x image_size x 3, red first",
}


def export(run: Run, output: Path) -> None:
    """Writes a run's best network to a new folder; work in progress lies in `<output>.partial`."""
    serialized = stablehlo(run.embedder)
    dim = serialized.out_avals[0].shape[1]
    manifest = {
        "format_version": FORMAT_VERSION,
        **run.origin,
        "run": run.path.resolve().name,
        "image_size": run.embedder.image_size,
        "embedding_dim": dim,
        "preprocessing": PREPROCESSING,
        "calibration": run.calibration and dataclasses.asdict(run.calibration),
        "attribution": run.attribution and dataclasses.asdict(run.attribution),
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "loading": LOADING,
        "config": _without_folders(run.config.to_dict()),
    }
    partial = output.with_name(output.name + ".partial")
    files.begin_work(partial, run.origin)
    with files.claimed(partial):
        folder = partial / "whole"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / STABLEHLO).write_bytes(serialized.serialize())
        weights = jax.device_get(arrays_by_name(run.embedder.arrays))
        (folder / WEIGHTS).write_bytes(safetensors.numpy.save(weights))
        manifest["weights_sha256"] = checksums.sha256(folder / WEIGHTS)
        files.write_json(folder / MANIFEST, manifest)
        card = model_card.text(run, name=output.resolve().name, dim=dim)
        (folder / CARD).write_text(card, encoding="utf-8")
        folder.rename(output)
        shutil.rmtree(partial)


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """A config for others, to whom this machine's folders say nothing."""
    for part, key in (("data", "store"), ("model", "weights")):
        config[part] |= {key: Path(config[part][key]).name}
    return config


def stablehlo(embedder: Embedder) -> jax.export.Exported:
    """Lowers an embedder with its weights: uint8 N x S x S x 3 to float32 N x D, for any N >= 1.

    Compiler options are not part of the result: whoever loads it gives them.
    """
    # With arrays on several devices, the result would need as many.
    params, stats = sharding.local((embedder.params, embedder.stats))
    network = functools.partial(embed_step, params, stats, network=embedder.network)
    (count,) = jax.export.symbolic_shape("N")
    shape = (count, embedder.image_size, embedder.image_size, 3)
    lower = jax.export.export(jax.jit(network), platforms=PLATFORMS)
    return lower(jax.ShapeDtypeStruct(shape, jnp.uint8))


def load(folder: Path) -> tuple[Embedder, Calibration | None, Attribution | None, dict[str, Any]]:
    """Builds the network of an exported folder; returns it, what was fitted to it, and its origin.

    Raises:
      InputError: the files are of another version, damaged, or do not fit together.
    """
    try:
        manifest = files.read_json(folder / MANIFEST)
        if manifest["format_version"] != FORMAT_VERSION:
            found = f"has format version {manifest['format_version']}, expected {FORMAT_VERSION}"
            raise InputError(f"{folder} {found}: export again")
        config = as_config(manifest["config"])
        if checksums.sha256(folder / WEIGHTS) != manifest["weights_sha256"]:
            raise InputError(f"{folder}/{WEIGHTS} is not what export wrote: export again")
        weights = safetensors.numpy.load_file(folder / WEIGHTS)
        calibration = manifest["calibration"] and Calibration(**manifest["calibration"])
        attribution = manifest.get("attribution") and Attribution(**manifest["attribution"])
        origin = {NETWORK: manifest[NETWORK], "decoding": images.decoding_of(manifest)}
        size = int(manifest["image_size"])
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as e:
        raise InputError(f"{folder} is not a whole export ({e!r}): export again") from e
    config_checks.check_keys(config, of=folder)
    start = untrained(config, image_size=size, pretrained=False)
    shapes = {name: array.shape for name, array in arrays_by_name(start.arrays).items()}
    if shapes != {name: array.shape for name, array in weights.items()}:
        raise InputError(f"{folder}/{WEIGHTS} does not fit the config in {MANIFEST}: export again")
    loaded = jax.tree.map_with_path(lambda path, _: weights[array_name(path)], start.arrays)
    loaded = sharding.replicate(start.mesh, loaded)
    return dataclasses.replace(start, **loaded), calibration, attribution, origin
