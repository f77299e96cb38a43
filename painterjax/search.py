"""Finds what hangs near a painting: the nearest of an index, with distances and probabilities.

    python -m painterjax.search --run RUN --query IMAGE [--k 10] [--index DIR] [--json FILE]
        [--artist NAME | --other-artists] [--style STYLE] [--century 1801-1900]
    python -m painterjax.search --run RUN --index DIR --add VECTORS

Example:

    python -m painterjax.search --run runs/quickstart --query painting.jpg --k 5

searches the paintings of the run's store, which are embedded into RUN/index the first time. IMAGE
is a file, or a painting of the index: its number or its file's name there. --index searches
another index, which --add makes or extends with what is new in a .npz of painterjax.embed.
"""

import argparse
import dataclasses
import difflib
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from painterjax import catalog, cli, compilation, embed, files, images, runfolder, vectors
from painterjax.errors import InputError
from painterjax.index import Entry, Index
from painterjax.store import Store, open_store
from painterjax.verification import Calibration, read_calibration

SUGGESTED = 5  # values instead of one that the index does not know
# What the origins of vectors that can be compared have in common.
SAME_RUN = ("step", "config_sha256")


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.search`."""
    compilation.keep_on_disk()
    args = _parse(argv)
    cli.check_json(args.json)
    added = vectors.load(args.add) if args.add else None
    embedder, origin = embed.of_run(args.run)
    if added is not None:
        _check_same_run(f"--add {args.add}", added.origin, origin)
        _add(added, args.index)
    if args.query:
        results = _answer(args, embedder, origin)
        if args.json:
            files.write_text(args.json, json.dumps(results, indent=2) + "\n")


def _answer(
    args: argparse.Namespace, embedder: embed.Embedder, origin: dict[str, Any]
) -> list[dict[str, Any]]:
    """Prints and returns what is found for a query."""
    index = Index(args.index) if args.index else own_index(args.run, embedder, origin)
    if not len(index):
        raise InputError(f"{index.folder} is no index: make one with --add")
    _check_same_run(str(index.folder), index.facts, origin)
    emb_D, entry = _embedding(args.query, index, embedder)
    among_N = filtered(
        index, entry, without_artist=args.other_artists,
        artist=args.artist, style=args.style, century=args.century,
    )  # fmt: skip
    skipped = None if entry is None else entry.id
    found = nearest(index, emb_D, args.k, among_N=among_N, skipped=skipped)
    calibration = read_calibration(args.run, step=origin["step"])
    described = functools.partial(describe, index, run=args.run, calibration=calibration)
    entries = index.entries([number for _, number in found])
    results = [
        described(entry, distance) for (distance, _), entry in zip(found, entries, strict=True)
    ]
    asked = args.query if entry is None else _named(described(entry, 0.0))
    print(f"near {asked}")
    print("\n".join(map(_line, results)) or "no painting of the index fits these filters")
    return results


def own_index(run: Path, embedder: embed.Embedder, origin: dict[str, Any]) -> Index:
    """Returns the index of a run's whole store in RUN/index, made where it is not there yet."""
    folder, building = run / "index", run / "index.partial"
    index = Index(folder)
    if len(index) and _is_of_store(index, run, origin):
        return index
    vectors_there = building / f"step-{origin['step']}"
    vectors_there.mkdir(parents=True, exist_ok=True)
    with files.claimed(building):
        shutil.rmtree(building / "index", ignore_errors=True)
        for embedded in embed.store_vectors(run, embedder, origin, partial=vectors_there):
            Index(building / "index").add(embedded)
        shutil.rmtree(folder, ignore_errors=True)  # Of an earlier state of the run.
        (building / "index").rename(folder)
    shutil.rmtree(building, ignore_errors=True)
    return Index(folder)


def _is_of_store(index: Index, run: Path, origin: dict[str, Any]) -> bool:
    """Whether an index has every painting of a run's store by its row, and no other."""
    dataset = runfolder.read_dataset(run)
    known = runfolder.flatten(dataset)  # It may be damaged: then the store is refused.
    counts = {name: known.get(f"counts.{name}.paintings", 0) for name in catalog.SPLITS}
    expected = [(name, dataset.get("sha256")) for name, count in counts.items() if count]
    found = [(each.get("split"), each.get("store_sha256")) for each in index.origins]
    same_run = all(index.facts[name] == str(origin[name]) for name in SAME_RUN)
    return same_run and found == expected and len(index) == sum(counts.values())


def _add(added: vectors.Vectors, folder: Path) -> None:
    index = Index(folder)
    count = index.add(added)
    there = len(added.paintings) - count
    recall = index.facts.get("recall")
    measured = f"finds {recall} of the ten nearest, as measured" if recall else "exact"
    told = f"{count} added" + (f", {there} were there already" if there else "")
    print(f"index: {index.folder}, {len(index)} paintings ({told}), {measured}")


def nearest(
    index: Index, emb_D: np.ndarray, k: int, *, among_N: np.ndarray | None, skipped: int | None
) -> list[tuple[float, int]]:
    """Returns distance and number of the k nearest paintings, without the one `skipped`."""
    distance_R, number_R = index.nearest(emb_D, k + (skipped is not None), among_N=among_N)
    found = zip(distance_R.tolist(), number_R.tolist(), strict=True)
    return [(distance, number) for distance, number in found if number != skipped][:k]


def describe(
    index: Index, entry: Entry, distance: float, *, run: Path, calibration: Calibration | None
) -> dict[str, Any]:
    """Returns what a user wants to know of a painting that was found."""
    probability = None
    if calibration is not None:
        probability = float(calibration.probability(distance))
    return {
        "id": entry.id,
        "distance": distance,
        "probability": probability,
        **dataclasses.asdict(entry.painting),
        "image": str(picture(index, entry, run)),
    }


def filtered(
    index: Index, entry: Entry | None, *, without_artist: bool, **wanted: str | None
) -> np.ndarray | None:
    """Returns which paintings filters leave, by number; None where there is no filter.

    Args:
      index: the index.
      entry: the painting that is asked about; None where it is not of the index.
      without_artist: whether its artist's paintings are left out.
      **wanted: the artist, style or century that paintings are to have.

    Raises:
      InputError: the index has no painting of a wanted value, or paintings by the artist are to be
        left out, and it knows none.
    """
    values = {key: _known(index, key, text) for key, text in wanted.items() if text is not None}
    if not without_artist:
        return index.find(**values) if values else None
    if entry is None or not entry.painting.artist:
        raise InputError("--other-artists needs a --query whose artist the index knows")
    others_N = ~index.find(artist=entry.painting.artist)
    return others_N & index.find(**values) if values else others_N


def _known(index: Index, column: str, text: str) -> str:
    """The value of a column that is meant: as the index writes it, but for capitals."""
    if index.has(column, text):
        return text
    values = index.values(column)
    by_folded = {value.casefold(): value for value in values}
    folded = text.casefold()
    if folded in by_folded:
        return by_folded[folded]
    within = [value for key, value in by_folded.items() if folded in key]
    alike = difflib.get_close_matches(folded, by_folded, n=SUGGESTED, cutoff=0.5)
    near = list(dict.fromkeys([*within, *(by_folded[key] for key in alike)]))[:SUGGESTED]
    told = f"near it: {', '.join(near)}" if near else f"it has {', '.join(values[:SUGGESTED])}"
    if not near and len(values) > SUGGESTED:
        told += f" and {len(values) - SUGGESTED} more"
    raise InputError(
        f"{column} {text!r} is of no painting of the index; {told if values else 'it knows none'}"
    )


def picture(index: Index, entry: Entry, run: Path) -> Path:
    """Returns the file that shows a painting: its own, or a thumbnail from its store.

    There is no file where it, or the store, is gone since.
    """
    if "images" in entry.origin:
        return Path(entry.origin["images"]).absolute() / entry.painting.file
    path = (index.folder / "thumbnails" / f"{entry.id}.png").absolute()
    store = None if path.exists() else _store(index.folder, run, entry.origin["store"])
    if store is not None and store.info["sha256"] == entry.origin.get("store_sha256"):
        split = store.splits[entry.origin["split"]]
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        Image.fromarray(split.image_NxSxSxC[entry.position]).save(temporary, "PNG")
        temporary.replace(path)
    return path


@functools.cache
def _store(folder: Path, run: Path, path: str) -> Store | None:
    """The store of an index's paintings: the run's in its own index, which may have moved."""
    try:
        return runfolder.open_store(run) if folder == run / "index" else open_store(path)
    except InputError:
        return None


def _check_same_run(what: str, facts: dict[str, Any], origin: dict[str, Any]) -> None:
    for name in SAME_RUN:
        if str(facts[name]) != str(origin[name]):
            raise InputError(
                f"{what} is of {name} {facts[name]}, the run of {origin[name]}:"
                " embed again, and add that to another --index"
            )


def _embedding(
    query: str, index: Index, embedder: embed.Embedder
) -> tuple[np.ndarray, Entry | None]:
    """Returns the embedding of an image file, or of a painting of the index, and its entry."""
    path = Path(query)
    if path.is_file():
        try:
            image_SxSxC = images.decode(images.read(path), size=embedder.image_size)
        except images.ImageError as error:
            raise InputError(f"--query {query}: {error}") from error
        return embedder.embed(image_SxSxC[None])[0], None
    numbers = [int(query)] if query.isdecimal() else np.flatnonzero(index.find(file=query)).tolist()
    if not numbers:
        raise InputError(f"--query {query}: no such file, nor a painting of {index.folder}")
    return index.embedding(index.entry(numbers[0]).id), index.entry(numbers[0])


def _line(result: dict[str, Any]) -> str:
    probability = result["probability"]
    share = "" if probability is None else f"{100 * probability:4.0f} %  "
    return f"{result['distance']:8.4f}  {share}{_named(result)}"


def _named(result: dict[str, Any]) -> str:
    title = " - ".join(filter(None, (result["artist"], result["title"], result["date"])))
    gone = "" if Path(result["image"]).exists() else ", which is gone"
    return f"{title}  ({result['id']}: {result['image']}{gone})"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.search")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--query", help="an image, or a painting of the index")
    parser.add_argument("--k", type=int, default=10, help="how many to find (10)")
    parser.add_argument("--index", type=Path, help="the index (RUN/index)")
    parser.add_argument("--add", type=Path, help="a .npz of painterjax.embed to add to --index")
    artist = parser.add_mutually_exclusive_group()
    artist.add_argument("--artist", help="find only paintings by this artist")
    artist.add_argument("--other-artists", action="store_true", help="find none by the query's")
    parser.add_argument("--style", help="find only paintings of this style")
    parser.add_argument("--century", help="find only paintings of this one, as 1801-1900")
    parser.add_argument("--json", type=Path, help="write what was found here as well")
    args = parser.parse_args(argv)
    if args.query is None and args.add is None:
        raise InputError("--query is required, or --add; see --help")
    if args.add is not None and args.index is None:
        raise InputError("--add needs --index, the folder to make or extend")
    if args.add is not None and args.index.resolve() == (args.run / "index").resolve():
        raise InputError(
            f"--index {args.index} holds the run's own store and nothing else:"
            " choose another for --add"
        )
    if args.k < 1:
        raise InputError(f"--k is {args.k}: must be at least 1")
    return args


if __name__ == "__main__":
    cli.run(main, "search")
