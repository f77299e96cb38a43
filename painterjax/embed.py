"""Embeds paintings: a split of a run's store, or any folder of images.

    python -m painterjax.embed --run RUN (--images DIR | --split test) --output FILE

Example:

    python -m painterjax.embed --run runs/quickstart --split test --output vectors.npz

writes a .npz with emb_NxD (float32), file, artist, title, style, genre and date of each painting,
and origin, the run they come from. What cannot be read of a folder stands in FILE.rejected.csv.
Interrupt it whenever you like: the same command goes on.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from painterjax import (
    catalog,
    checkpoint,
    checks,
    cli,
    compilation,
    decoding,
    files,
    runfolder,
    runlog,
    sources,
    vectors,
    wiring,
)
from painterjax.errors import InputError
from painterjax.model import StyleNet
from painterjax.step import PureDict, embed_step
from painterjax.store import open_store, verify


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.embed`."""
    compilation.keep_on_disk()
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.embed")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, help="a folder of images, at any depth")
    what.add_argument("--split", choices=catalog.SPLITS, help="of the run's store")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if args.output.suffix != ".npz":
        raise InputError(f"--output is {args.output}: its name must end in .npz")
    if args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    if args.split:
        embed_split(args.run, args.split, args.output)
    else:
        embed_images(args.run, args.images, args.output, workers=args.workers)


def embed_split(run: Path, name: str, output: Path) -> None:
    """Embeds a split of a run's store by the run's best checkpoint."""
    for embedded in store_vectors(run, *of_run(run), names=(name,)):
        vectors.save(output, embedded)
        print(f"embeddings: {output}")


def store_vectors(
    run: Path,
    embedder: "Embedder",
    origin: dict[str, Any],
    *,
    names: tuple[str, ...] = catalog.SPLITS,
) -> Iterator[vectors.Vectors]:
    """Embeds splits of a run's store; those without a painting are left out.

    Raises:
      InputError: the store is another now, or has no painting in these splits.
    """
    store = open_store(runfolder.read_config(run).data.store)
    runfolder.check_same(run, "dataset", store.info)
    verify(store.path)
    splits = [store.splits[name] for name in names if len(store.splits[name])]
    if not splits:
        raise InputError(f"{store.path} has no painting in {', '.join(names)}")
    for split in splits:
        with runlog.Progress(f"embed {split.name}", total=len(split), unit="painting") as progress:
            emb_NxD = embedder.embed(split.image_NxSxSxC, progress)
        where = {"store": str(store.path.resolve()), "store_sha256": store.info["sha256"]}
        at = {**origin, **where, "split": split.name}
        yield vectors.Vectors(emb_NxD, split.paintings, at)


def embed_images(run: Path, directory: Path, output: Path, *, workers: int) -> None:
    """Embeds every image below a folder; work in progress lies in `<output>.partial`."""
    if output.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{output} lies in --images {directory}: put it elsewhere")
    source = sources.files_below(directory)
    embedder, origin = of_run(run)
    dim = embedder.embed(np.zeros((1, embedder.image_size, embedder.image_size, 3), np.uint8)).size
    listing = hashlib.sha256(repr(source.paintings).encode()).hexdigest()
    origin |= {"images": str(directory)}
    partial = output.with_name(output.name + ".partial")
    files.begin(partial, {**origin, "listing_sha256": listing})
    with files.claimed(partial):
        keeping = decoding.Keeping(embedder.embed, 4 * dim, embedder.batch_size)
        fates = decoding.decode_all(
            source, partial, size=embedder.image_size, workers=workers, keeping=keeping,
            what="embed",
        )  # fmt: skip
        embedded = [p for p, fate in zip(source.paintings, fates, strict=True) if "sha256" in fate]
        rejected = [(fate["file"], fate["reason"]) for fate in fates if "reason" in fate]
        rejected += source.rejected
        if rejected:
            table = output.with_name(output.name + ".rejected.csv")
            text = catalog.csv_text([("file", "reason"), *sorted(rejected)])
            table.write_text(text, encoding="utf-8", newline="\n")
            print(f"  {len(rejected)} files rejected: see {table}")
        if not embedded:
            shutil.rmtree(partial)
            raise InputError(f"no image in {directory} can be read, of {len(rejected)} files")
        emb_NxD = np.fromfile(partial / "records.bin", np.float32).reshape(-1, dim)
        vectors.save(output, vectors.Vectors(emb_NxD, embedded, origin))
        shutil.rmtree(partial)
    print(f"embeddings: {output}")


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A network with its arrays, ready to embed.

    Attributes:
      network: the network without its arrays.
      step: jitted; maps params, stats and image_BxSxSxC to emb_BxD.
      params, stats: the network's parameters and BatchNorm statistics.
      batch_size: images in a batch.
      image_size: the side S of the images that it takes.
    """

    network: nnx.GraphDef[StyleNet]
    step: Callable[[PureDict, PureDict, np.ndarray], jax.Array]
    params: PureDict
    stats: PureDict
    batch_size: int
    image_size: int

    def embed(
        self, image_NxSxSxC: np.ndarray, progress: runlog.Progress | None = None
    ) -> np.ndarray:
        """Embeds any number N >= 1 of uint8 images: float32 N x D, on the host."""
        count, parts = len(image_NxSxSxC), []
        for start in range(0, count, self.batch_size):
            # The last batch is filled up with copies of the last image.
            row_B = np.minimum(np.arange(start, start + self.batch_size), count - 1)
            parts.append(np.asarray(self.step(self.params, self.stats, image_NxSxSxC[row_B])))
            if progress is not None:
                progress.advance(min(self.batch_size, count - start))
        return np.concatenate(parts)[:count]


def untrained(config: runfolder.Config, *, image_size: int) -> Embedder:
    """Returns an embedder with the weights that training starts from."""
    network, params, stats = wiring.network(config, image_size=image_size)
    jitted_step = jax.jit(
        functools.partial(embed_step, network=network),
        compiler_options=compilation.options(config.model.dtype),
    )
    return Embedder(network, jitted_step, params, stats, config.eval.batch_size, image_size)


def of_run(run: Path) -> tuple[Embedder, dict[str, Any]]:
    """Returns a run's best network, and which one that is."""
    config = runfolder.read_config(run)
    checks.check_keys(config)
    size = runfolder.read_image_size(run)
    checks.check(config, image_size=size)
    start = untrained(config, image_size=size)
    embedder, step = trained(run, start)
    text = json.dumps(config.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return embedder, {"run": str(run), "step": step, "config_sha256": digest}


def trained(run: Path, start: Embedder) -> tuple[Embedder, int]:
    """Returns `start` with the weights of a run's best checkpoint, and that checkpoint's step.

    Raises:
      InputError: the run has no checkpoint.
    """
    checkpoints = checkpoint.Checkpoints(run)
    params, stats, step = checkpoints.restore_network(start.params, start.stats)
    checkpoints.close()
    return dataclasses.replace(start, params=params, stats=stats), step


if __name__ == "__main__":
    cli.run(main, "embed")
