"""Embeds a split of a run's store, or any folder of images; resumable."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from painterjax.common import checksums, files
from painterjax.common.errors import InputError
from painterjax.common.progress import Progress
from painterjax.data import catalog, records, sources
from painterjax.data.store import verify
from painterjax.model.embedder import Embedder, untrained
from painterjax.run import checkpoint, config_checks, embeddings
from painterjax.run import folder as run_folder


def embed_split(run: Path, name: str, output: Path) -> None:
    """Embeds a split of a run's store; work in progress lies in `<output>.partial`."""
    embedder, origin = of_run(run)
    store = run_folder.open_store_of(run)
    if not len(store.splits[name]):
        raise InputError(f"{store.path} has no painting in {name}")
    partial = _begin(output, origin)
    with files.claimed(partial):
        (embedded,) = store_vectors(run, embedder, origin, names=(name,), partial=partial)
        embeddings.save(output, embedded)
        shutil.rmtree(partial)
    print(f"embeddings: {output}")


def store_vectors(
    run: Path,
    embedder: Embedder,
    origin: dict[str, Any],
    *,
    names: tuple[str, ...] = catalog.SPLITS,
    partial: Path | None = None,
) -> Iterator[embeddings.Vectors]:
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
    store = run_folder.open_store_of(run)
    verify(store.path)
    splits = [store.splits[name] for name in names if len(store.splits[name])]
    if not splits:
        raise InputError(f"{store.path} has no painting in {', '.join(names)}")
    where = {"store": str(store.path.resolve()), "store_sha256": store.info["sha256"]}
    for split in splits:
        with Progress(f"embed {split.name}", total=len(split), unit="painting") as progress:
            if partial is None:
                emb_NxD = embedder.embed(split.image_NxSxSxC, progress)
            else:
                records = partial / f"{split.name}.f32"
                emb_NxD = _embed_resumably(embedder, split.image_NxSxSxC, records, progress)
        at = {**origin, **where, "split": split.name}
        yield embeddings.Vectors(emb_NxD, split.paintings, at)


def _embed_resumably(
    embedder: Embedder, image_NxSxSxC: np.ndarray, path: Path, progress: Progress
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
) -> tuple[embeddings.Vectors, dict[str, str]]:
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
        embeddings.save(output, dataclasses.replace(embedded, origin=origin))
        shutil.rmtree(partial)
    print(f"embeddings: {output}, {len(embedded.paintings)} paintings")
    return embedded, rejected


# Vectors by the file and its SHA-256.
_Known = dict[tuple[str, str], np.ndarray]


def _there(output: Path, origin: dict[str, Any]) -> _Known:
    """What `output` has already of the images that `origin` names."""
    if not output.exists():
        return {}
    found = embeddings.load(output)
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
    embedder: Embedder,
    there: _Known,
    partial: Path,
    directory: Path,
    workers: int,
) -> tuple[embeddings.Vectors, dict[str, str]]:
    """Embeds what is neither `there` nor in `partial`; returns all, and what is rejected."""
    row_bytes = 4 * embedder.dim
    before = records.recover(partial, record_bytes=row_bytes)
    known = there.keys() | {(fate["file"], fate["sha256"]) for fate in before if "sha256" in fate}
    sha256 = _unchanged(source, directory, known)
    left = [painting for painting in source.paintings if painting.file not in sha256]
    done = [catalog.Painting(fate["file"], "") for fate in before]
    fates = records.decode_all(
        dataclasses.replace(source, paintings=done + left), partial,
        records.RecordFormat(embedder.image_size, embedder.embed, row_bytes, embedder.batch_size),
        workers=workers, label="embed",
    )  # fmt: skip
    emb_RxD = np.fromfile(partial / records.RECORDS, np.float32).reshape(-1, embedder.dim)
    kept = [(fate["file"], fate["sha256"]) for fate in fates if "sha256" in fate]
    vector = there | dict(zip(kept, emb_RxD, strict=True))
    new = fates[len(before) :]
    sha256 |= {fate["file"]: fate["sha256"] for fate in new if "sha256" in fate}
    rejected = {fate["file"]: fate["reason"] for fate in new if "reason" in fate}
    paintings = [painting for painting in source.paintings if painting.file in sha256]
    digests = [sha256[painting.file] for painting in paintings]
    rows = [vector[p.file, digest] for p, digest in zip(paintings, digests, strict=True)]
    emb_NxD = np.array(rows, np.float32)
    return embeddings.Vectors(emb_NxD, paintings, {}, digests), rejected | dict(source.rejected)


def _unchanged(
    source: sources.Source, directory: Path, known: Collection[tuple[str, str]]
) -> dict[str, str]:
    """The SHA-256 of the files whose contents are known, by file."""
    names = {file for file, _ in known}
    again = [painting.file for painting in source.paintings if painting.file in names]
    unchanged: dict[str, str] = {}
    if not again:
        return unchanged
    with Progress("compare", total=len(again), unit="file") as progress:
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
    files.begin_work(partial, {name: origin[name] for name in ("step", "config_sha256")})
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


def of_run(run: Path) -> tuple[Embedder, dict[str, Any]]:
    """Returns a run's best network, and which one that is."""
    config = run_folder.read_config(run)
    config_checks.check_keys(config)
    size = run_folder.read_image_size(run)
    config_checks.check(config, image_size=size)
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
