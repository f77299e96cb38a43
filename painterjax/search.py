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
import functools
import json
from pathlib import Path
from typing import Any

from painterjax.common import cli, files
from painterjax.common.errors import InputError
from painterjax.distributed import compilation
from painterjax.index import lookup
from painterjax.index.index import Index
from painterjax.model.embedder import Embedder
from painterjax.run import embed as run_embed
from painterjax.run import embeddings
from painterjax.run.evaluation import read_calibration


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.search`."""
    compilation.keep_on_disk()
    args = _parse(argv)
    cli.check_json(args.json)
    added = embeddings.load(args.add) if args.add else None
    embedder, origin = run_embed.of_run(args.run)
    if added is not None:
        lookup.check_same_run(f"--add {args.add}", added.origin, origin)
        _add(added, args.index)
    if args.query:
        results = _answer(args, embedder, origin)
        if args.json:
            files.write_text(args.json, json.dumps(results, indent=2) + "\n")


def _answer(
    args: argparse.Namespace, embedder: Embedder, origin: dict[str, Any]
) -> list[dict[str, Any]]:
    """Prints and returns what is found for a query."""
    index = Index(args.index) if args.index else lookup.own_index(args.run, embedder, origin)
    if not len(index):
        raise InputError(f"{index.folder} is no index: make one with --add")
    lookup.check_same_run(str(index.folder), index.facts, origin)
    emb_D, entry = lookup.embedding(args.query, index, embedder)
    among_N = lookup.filtered(
        index, entry, without_artist=args.other_artists,
        artist=args.artist, style=args.style, century=args.century,
    )  # fmt: skip
    skipped = None if entry is None else entry.id
    found = lookup.nearest(index, emb_D, args.k, among_N=among_N, skipped=skipped)
    calibration = read_calibration(args.run, step=origin["step"])
    described = functools.partial(lookup.describe, index, run=args.run, calibration=calibration)
    entries = index.entries([number for _, number in found])
    results = [
        described(entry, distance) for (distance, _), entry in zip(found, entries, strict=True)
    ]
    asked = args.query if entry is None else _named(described(entry, 0.0))
    print(f"near {asked}")
    print("\n".join(map(_line, results)) or "no painting of the index fits these filters")
    return results


def _add(added: embeddings.Vectors, folder: Path) -> None:
    index = Index(folder)
    count = index.add(added)
    there = len(added.paintings) - count
    recall = index.facts.get("recall")
    measured = f"finds {recall} of the ten nearest, as measured" if recall else "exact"
    told = f"{count} added" + (f", {there} were there already" if there else "")
    print(f"index: {index.folder}, {len(index)} paintings ({told}), {measured}")


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
