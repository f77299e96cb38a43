"""Embeds paintings: a split of a run's store, or any folder of images.

    python -m painterjax.embed --run RUN (--images DIR | --split test) --output FILE

Example:

    python -m painterjax.embed --run runs/quickstart --split test --output vectors.npz

writes a .npz with emb_NxD (float32), file, artist, title, style, genre and date of each painting,
and origin, the run they come from. What cannot be read of a folder stands in FILE.rejected.csv.
Interrupt it whenever you like: the same command goes on. Once a folder has other images than FILE,
it embeds what is new or changed, by name and SHA-256, and drops what is gone.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from painterjax import (
    catalog,
    checkpoint,
    checks,
    checksums,
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
from painterjax.store import verify


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
    if args.split:
        if args.output.exists():
            raise InputError(f"--output {args.output} exists: delete it or choose another")
        embed_split(args.run, args.split, args.output)
    else:
        embed_images(args.run, args.images, args.output, workers=args.workers)


def embed_split(run: Path, name: str, output: Path) -> None:
    """Embeds a split of a run's store; work in progress lies in `<output>.partial`."""
    embedder, origin = of_run(run)
    store = runfolder.open_store(run)
    if not len(store.splits[name]):
        raise InputError(f"{store.path} has no painting in {name}")
    partial = _begin(output, origin)
    with files.claimed(partial):
        (embedded,) = store_vectors(run, embedder, origin, names=(name,), partial=partial)
        vectors.save(output, embedded)
        shutil.rmtree(partial)
    print(f"embeddings: {output}")


def store_vectors(
    run: Path,
    embedder: "Embedder",
    origin: dict[str, Any],
    *,
    names: tuple[str, ...] = catalog.SPLITS,
    partial: Path | None = None,
) -> Iterator[vectors.Vectors]:
    """Embeds splits of a run's store; those without a painting are left out.

    Args:
      run: the run.
      embedder: its network.
      origin: which one that is.
      names: the splits.
      partial: the folder of what an earlier call came to, by the same network, from where this
        one goes on; where None it begins anew.

    Raises:
      InputError: the store is another now, or has no painting in these splits.
    """
    store = runfolder.open_store(run)
    verify(store.path)
    splits = [store.splits[name] for name in names if len(store.splits[name])]
    if not splits:
        raise InputError(f"{store.path} has no painting in {', '.join(names)}")
    where = {"store": str(store.path.resolve()), "store_sha256": store.info["sha256"]}
    for split in splits:
        with runlog.Progress(f"embed {split.name}", total=len(split), unit="painting") as progress:
            if partial is None:
                emb_NxD = embedder.embed(split.image_NxSxSxC, progress)
            else:
                records = partial / f"{split.name}.f32"
                emb_NxD = _embed_resumably(embedder, split.image_NxSxSxC, records, progress)
        at = {**origin, **where, "split": split.name}
        yield vectors.Vectors(emb_NxD, split.paintings, at)


def _embed_resumably(
    embedder: "Embedder", image_NxSxSxC: np.ndarray, path: Path, progress: runlog.Progress
) -> np.ndarray:
    """Appends the vectors that `path` has not yet, a batch at a time; returns all."""
    row_bytes, length = 4 * embedder.dim, embedder.batch_size
    with open(path, "ab") as records:
        done = records.tell() // row_bytes // length * length
        records.truncate(done * row_bytes)
        progress.advance(done)
        for start in range(done, len(image_NxSxSxC), length):
            image_BxSxSxC = image_NxSxSxC[start : start + length]
            records.write(embedder.embed(image_BxSxSxC, progress).tobytes())
            records.flush()
    return np.fromfile(path, np.float32).reshape(-1, embedder.dim)


def embed_images(
    run: Path, directory: Path, output: Path, *, workers: int
) -> tuple[vectors.Vectors, dict[str, str]]:
    """Embeds every image below a folder; work in progress lies in `<output>.partial`.

    What `output` has of these images already is taken from there.

    Returns:
      What `output` holds then, and why files have no vector, by file.

    Raises:
      InputError: there is no image, or `output` is of something else.
    """
    if output.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{output} lies in --images {directory}: put it elsewhere")
    source = sources.files_below(directory)
    if not source.paintings and not source.rejected:
        raise InputError(f"no image in {directory}")
    embedder, origin = of_run(run)
    origin |= {"images": str(directory.resolve())}
    there = _there(output, origin)
    partial = _begin(output, origin)
    with files.claimed(partial):
        embedded, rejected = _embed_new(source, embedder, there, partial, directory, workers)
        _write_rejected(output, rejected)
        if not embedded.paintings:
            shutil.rmtree(partial)
            raise InputError(f"no image in {directory} can be read, of {len(rejected)} files")
        vectors.save(output, dataclasses.replace(embedded, origin=origin))
        shutil.rmtree(partial)
    print(f"embeddings: {output}, {len(embedded.paintings)} paintings")
    return embedded, rejected


# Vectors by the file and its SHA-256.
_Known = dict[tuple[str, str], np.ndarray]


def _there(output: Path, origin: dict[str, Any]) -> _Known:
    """What `output` has already of the images that `origin` names."""
    if not output.exists():
        return {}
    found = vectors.load(output)
    _check_same_run(output, found.origin, origin)
    if "images" not in found.origin:
        raise InputError(f"{output} holds a split of a store: choose another --output")
    images = Path(found.origin["images"])
    if images.resolve() != Path(origin["images"]) and images.is_dir():
        raise InputError(f"{output} is of the images of {images}: choose another --output")
    names = (painting.file for painting in found.paintings)
    return dict(zip(zip(names, found.sha256 or [], strict=False), found.emb_NxD, strict=False))


def _embed_new(
    source: sources.Source,
    embedder: "Embedder",
    there: _Known,
    partial: Path,
    directory: Path,
    workers: int,
) -> tuple[vectors.Vectors, dict[str, str]]:
    """Embeds what is neither `there` nor in `partial`; returns all, and what is rejected."""
    row_bytes = 4 * embedder.dim
    before = decoding.recovered(partial, bytes_per_image=row_bytes)
    known = there.keys() | {(fate["file"], fate["sha256"]) for fate in before if "sha256" in fate}
    sha256 = _unchanged(source, directory, known)
    left = [painting for painting in source.paintings if painting.file not in sha256]
    done = [catalog.Painting(fate["file"], "") for fate in before]
    fates = decoding.decode_all(
        dataclasses.replace(source, paintings=done + left), partial, size=embedder.image_size,
        workers=workers, what="embed",
        keeping=decoding.Keeping(embedder.embed, row_bytes, embedder.batch_size),
    )  # fmt: skip
    emb_RxD = np.fromfile(partial / decoding.RECORDS, np.float32).reshape(-1, embedder.dim)
    kept = [(fate["file"], fate["sha256"]) for fate in fates if "sha256" in fate]
    vector = there | dict(zip(kept, emb_RxD, strict=True))
    new = fates[len(before) :]
    sha256 |= {fate["file"]: fate["sha256"] for fate in new if "sha256" in fate}
    rejected = {fate["file"]: fate["reason"] for fate in new if "reason" in fate}
    paintings = [painting for painting in source.paintings if painting.file in sha256]
    digests = [sha256[painting.file] for painting in paintings]
    rows = [vector[p.file, digest] for p, digest in zip(paintings, digests, strict=True)]
    emb_NxD = np.array(rows, np.float32)
    return vectors.Vectors(emb_NxD, paintings, {}, digests), rejected | dict(source.rejected)


def _unchanged(
    source: sources.Source, directory: Path, known: Collection[tuple[str, str]]
) -> dict[str, str]:
    """The SHA-256 of the files whose contents are known, by file."""
    names = {file for file, _ in known}
    again = [painting.file for painting in source.paintings if painting.file in names]
    unchanged: dict[str, str] = {}
    if not again:
        return unchanged
    with runlog.Progress("compare", total=len(again), unit="file") as progress:
        for file in again:
            with contextlib.suppress(OSError):  # Decoding it will say why.
                digest = checksums.sha256(directory / file)
                if (file, digest) in known:
                    unchanged[file] = digest
            progress.advance(1)
    return unchanged


def _begin(output: Path, origin: dict[str, Any]) -> Path:
    """The folder of work in progress, which must not be that of another network."""
    partial = output.with_name(output.name + ".partial")
    if (partial / "plan.json").exists():
        _check_same_run(partial, files.read_plan(partial), origin)
    files.begin(partial, {name: origin[name] for name in ("step", "config_sha256")})
    return partial


def _check_same_run(path: Path, was: dict[str, Any], origin: dict[str, Any]) -> None:
    if was.get("config_sha256") != origin["config_sha256"]:
        raise InputError(f"{path} is of another run: delete it to embed anew")
    if was.get("step") != origin["step"]:
        raise InputError(
            f"{path} is of step {was.get('step')} of the run, whose best step is {origin['step']}"
            " now: delete it to embed anew"
        )


def _write_rejected(output: Path, rejected: dict[str, str]) -> None:
    table = output.with_name(output.name + ".rejected.csv")
    table.unlink(missing_ok=True)
    if rejected:
        text = catalog.csv_text([("file", "reason"), *sorted(rejected.items())])
        table.write_text(text, encoding="utf-8", newline="\n")
        print(f"  {len(rejected)} files rejected: see {table}")


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

    @property
    def dim(self) -> int:
        """The features D of an embedding."""
        shape = (self.batch_size, self.image_size, self.image_size, 3)
        image_BxSxSxC = jax.ShapeDtypeStruct(shape, np.uint8)
        return jax.eval_shape(self.step, self.params, self.stats, image_BxSxSxC).shape[1]

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
