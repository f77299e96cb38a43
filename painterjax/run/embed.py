"""Embeds a split of a run's store, or any folder of images; interrupted work goes on."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np

from painterjax.common import checksums, files
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.common.process_pool import Workers
from painterjax.common.progress import Progress, counted
from painterjax.data import catalog, images, records, sources
from painterjax.data.columns import Paintings
from painterjax.data.store import Store, verify
from painterjax.distributed import processes
from painterjax.model.embedder import (
    Embedder,
    embed_resumably,
    embed_squares,
    embed_together,
    head_alone,
)  # fmt: skip
from painterjax.model.trainable import keeps_backbone
from painterjax.run import embeddings, features
from painterjax.run.embeddings import Vectors
from painterjax.run.load import NETWORK, Run

# A file and the SHA-256 of its bytes.
FileVersion = tuple[str, str]


def split_embeddings(run: Run, name: str) -> Vectors:
    """Returns the embeddings of a split of a run's store, and keeps them for the next command.

    They lie in RUN/embeddings/<split>.npz, and are made anew for another network or another store,
    and by several processes, which call it together.

    Raises:
      InputError: the store has changed, or has no painting in this split.
    """
    # Of several processes one might see the file while the others wait for its share.
    if jax.process_count() == 1 and (kept := kept_embeddings(run, name)) is not None:
        return kept
    embedded = compute_embeddings(run, name)
    if processes.is_writer():
        path = _kept_path(run, name)
        path.parent.mkdir(exist_ok=True)
        embeddings.save(path, embedded)
    return embedded


def kept_embeddings(run: Run, name: str) -> Vectors | None:
    """Returns the embeddings of a split that an earlier command kept; None where there are none."""
    path, origin = _kept_path(run, name), _split_origin(run, name)
    if not path.is_file():
        return None
    with contextlib.suppress(InputError):  # A damaged file is made anew.
        found = embeddings.load(path)
        if all(found.origin.get(key) == origin[key] for key in (NETWORK, "store_sha256")):
            return dataclasses.replace(found, origin=origin)  # The store may have moved.
    return None


def compute_embeddings(run: Run, name: str, *, work: Path | None = None) -> Vectors:
    """Embeds a split of a run's store.

    Args:
      run: the run.
      name: the split.
      work: a folder where an interrupted call of the same network left its progress, and where
        this one leaves its own; None begins anew.
    """
    split = run.store.splits[name]
    if not len(split):
        raise InputError(f"{run.store.path} has no painting in {name}")
    verify(run.store.path, share=processes.share())
    if work is None or keeps_backbone(run.config):
        emb_NxD = embed_paintings(run.config, run.store, name, run.embedder, f"embed {name}")
    else:
        with Progress(f"embed {name}", total=len(split), unit="painting") as progress:
            path = work / f"{name}.f32"
            emb_NxD = embed_resumably(run.embedder, split.image_NxSxSxC, path, progress)
    return Vectors(emb_NxD, split.paintings, _split_origin(run, name))


def embed_paintings(
    config: Config, store: Store, name: str, embedder: Embedder, label: str
) -> np.ndarray:
    """Embeds a split, all processes of a training together; the writer shows the progress.

    Where the backbone is frozen, its features are those that are kept beside the store.
    """
    split = store.splits[name]
    if keeps_backbone(config):
        split = features.with_features(config, store, (name,)).splits[name]
        embedder = head_alone(config, embedder, features=split.inputs.shape[1])
    return embed_together(embedder, split.inputs, label)


def embed_split(run: Run, name: str, output: Path) -> None:
    """Writes the embeddings of a split; work in progress lies in `<output>.partial`."""
    _ = run.store  # Refuses where there is none, before anything is written.
    with _partial_folder(run, output) as work:
        embedded = kept_embeddings(run, name) or compute_embeddings(run, name, work=work)
        embeddings.save(output, embedded)
    print(f"embeddings: {output}")


def embed_folder(
    run: Run, directory: Path, output: Path, *, workers: Workers, squares: int = images.MOST_SQUARES
) -> tuple[Vectors, dict[str, str]]:
    """Embeds every image below a folder; work in progress lies in `<output>.partial`.

    Images that `output` has already, by name and SHA-256, are not embedded again. Of a wide image
    it embeds the mean over as many squares as `squares`.

    Returns:
      What `output` holds then, and the reason for each file that has no vector.

    Raises:
      InputError: there is no image, `output` is of another network or of something else, or the
        run's store was decoded in another way.
    """
    run.check_decoding()
    if output.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{output} lies in --images {directory}: put it elsewhere")
    source = sources.files_below(directory)
    if not source.paintings and not source.rejected:
        raise InputError(f"no image in {directory}")
    origin = {**run.origin, "images": str(directory.resolve()), "squares": squares}
    known, sha256_by_stamp = _known_vectors(run, output, origin)
    source = dataclasses.replace(
        source, load=functools.partial(sources.load_squares, directory.absolute(), squares)
    )
    with _partial_folder(run, output, squares=squares) as work:
        embedded, rejected = _embed_new(run.embedder, source, known, sha256_by_stamp, work, workers)
        _write_rejected(output, rejected)
        if embedded.paintings:
            embeddings.save(output, dataclasses.replace(embedded, origin=origin))
    if not embedded.paintings:
        raise InputError(
            f"no image in {directory} can be read, of {counted(len(rejected), 'file')}"
        )
    print(f"embeddings: {output}, {counted(len(embedded.paintings), 'painting')}")
    return embedded, rejected


def _kept_path(run: Run, name: str) -> Path:
    return run.path / "embeddings" / f"{name}.npz"


def _split_origin(run: Run, name: str) -> dict[str, Any]:
    where = {"store": str(run.store.path.resolve()), "store_sha256": run.store.sha256}
    return {**run.origin, **where, "split": name}


@contextlib.contextmanager
def _partial_folder(run: Run, output: Path, **plan: int):
    """Claims the folder of work in progress; it is removed when the block ends well."""
    partial = output.with_name(output.name + ".partial")
    if (partial / "plan.json").exists():
        run.check_same_network(str(partial), files.read_plan(partial))
    files.begin_work(partial, {NETWORK: run.origin[NETWORK], **plan})
    with files.claimed(partial):
        yield partial
        shutil.rmtree(partial)


def _known_vectors(
    run: Run, output: Path, origin: dict[str, Any]
) -> tuple[dict[FileVersion, np.ndarray], dict[tuple[str, str], str]]:
    """The vectors that `output` has of the images that `origin` names.

    Of each file and its stamp also the SHA-256 that it had.
    """
    if not output.exists():
        return {}, {}
    found = embeddings.load(output)
    run.check_same_network(str(output), found.origin)
    if "images" not in found.origin:
        raise InputError(f"{output} holds a split of a store: choose another --output")
    images = Path(found.origin["images"])
    if images.resolve() != Path(origin["images"]) and images.is_dir():
        raise InputError(f"{output} is of the images of {images}: choose another --output")
    if found.origin.get("squares", 1) != origin["squares"]:
        return {}, {}
    names, sha256 = [painting.file for painting in found.paintings], found.sha256 or []
    stamped = zip(names, found.stamps or [], strict=False)
    return (
        dict(zip(zip(names, sha256, strict=False), found.emb_NxD, strict=False)),
        {key: digest for key, digest in zip(stamped, sha256, strict=False) if key[1]},
    )


def _embed_new(
    embedder: Embedder,
    source: sources.Source,
    known: dict[FileVersion, np.ndarray],
    sha256_by_stamp: dict[tuple[str, str], str],
    work: Path,
    workers: Workers,
) -> tuple[Vectors, dict[str, str]]:
    """Embeds the files that neither `known` nor an interrupted call has; returns all of them."""
    stamps = _stamps(source)  # A change from here on gives a file another one.
    row_bytes = 4 * embedder.dim
    before = records.recover(work, record_bytes=row_bytes)
    versions = known.keys() | {(f["file"], f["sha256"]) for f in before if "sha256" in f}
    found = ((file, sha256_by_stamp.get((file, stamp))) for file, stamp in stamps.items())
    sha256 = {file: digest for file, digest in found if digest}
    sha256 |= _unchanged(source, [version for version in versions if version[0] not in sha256])
    left = [painting for painting in source.paintings if painting.file not in sha256]
    done = [catalog.Painting(fate["file"], "") for fate in before]
    fates = records.decode_all(
        dataclasses.replace(source, paintings=Paintings.of(done + left)), work,
        records.RecordFormat(
            embedder.image_size, functools.partial(embed_squares, embedder), row_bytes,
            embedder.batch_size,  # What is missing would be computed for nothing.
        ),
        workers=workers, label="embed",
    )  # fmt: skip
    emb_RxD = np.fromfile(work / records.RECORDS, np.float32).reshape(-1, embedder.dim)
    kept = [(fate["file"], fate["sha256"]) for fate in fates if "sha256" in fate]
    vector = known | dict(zip(kept, emb_RxD, strict=True))
    new = fates[len(before) :]
    sha256 |= {fate["file"]: fate["sha256"] for fate in new if "sha256" in fate}
    rejected = {fate["file"]: fate["reason"] for fate in new if "reason" in fate}
    paintings = [painting for painting in source.paintings if painting.file in sha256]
    digests = [sha256[painting.file] for painting in paintings]
    rows = [vector[p.file, digest] for p, digest in zip(paintings, digests, strict=True)]
    own_stamps = [stamps[painting.file] for painting in paintings]
    embedded = Vectors(np.array(rows, np.float32), paintings, {}, digests, own_stamps)
    return embedded, rejected | dict(source.rejected)


def _stamps(source: sources.Source) -> dict[str, str]:
    """The stamp of each file; "" where it cannot be read, as decoding it will say."""
    assert source.directory is not None, "a listing of files"
    stamps = dict.fromkeys((painting.file for painting in source.paintings), "")
    for file in stamps:
        with contextlib.suppress(OSError):
            stamps[file] = checksums.stamp(source.directory / file)
    return stamps


def _unchanged(source: sources.Source, versions: Collection[FileVersion]) -> dict[str, str]:
    """The SHA-256 of the files of which a version is known and on the disk, by file."""
    assert source.directory is not None, "a listing of files"
    versions = set(versions)
    names = {file for file, _ in versions}
    again = [painting.file for painting in source.paintings if painting.file in names]
    unchanged: dict[str, str] = {}
    if not again:
        return unchanged
    with Progress("compare", total=len(again), unit="file") as progress:
        for file in again:
            with contextlib.suppress(OSError):  # Decoding it will say why.
                digest = checksums.sha256(source.directory / file)
                if (file, digest) in versions:
                    unchanged[file] = digest
            progress.advance(1)
    return unchanged


def _write_rejected(output: Path, rejected: dict[str, str]) -> None:
    table = output.with_name(output.name + ".rejected.csv")
    table.unlink(missing_ok=True)
    if rejected:
        files.write_text(table, catalog.csv_text([("file", "reason"), *sorted(rejected.items())]))
        print(f"  {counted(len(rejected), 'file')} rejected: see {table}")
