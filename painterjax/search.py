"""Finds the paintings nearest to an image, and tells which artists may have painted it.

    python -m painterjax.search --run RUN --query IMAGE [--k 10] [--index DIR] [--json FILE]
        [--why FILE]
        [--artist NAME | --other-artists] [--style STYLE] [--century 1801-1900]
    python -m painterjax.search --run RUN --index DIR --add VECTORS

Example:

    python -m painterjax.search --run runs/quickstart --query painting.jpg --k 5

searches the paintings of the run's store; the first search embeds them into RUN/index. IMAGE is a
file, or the number or file name of a painting of the index. --index searches another index, and
--add makes or extends it with the new paintings of a file that painterjax.embed wrote. --why draws
where the query and each painting that was found are alike.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from painterjax.common import cli, files
from painterjax.common.errors import InputError
from painterjax.common.progress import counted

if TYPE_CHECKING:
    import numpy as np

    from painterjax.run.embeddings import Vectors
    from painterjax.run.load import Run


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.search`."""
    args = _parse(argv)
    cli.check_json(args.json)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.run import embeddings
    from painterjax.run.untrained import open_run

    compilation.keep_on_disk()
    added = embeddings.load(args.add) if args.add else None
    run = open_run(args.run)
    if added is not None:
        run.check_same_network(f"--add {args.add}", added.origin)
        _add(added, args.index)
    if args.query:
        results = _search(run, args)
        if args.json:
            files.write_text(args.json, json.dumps(results, indent=2) + "\n")


def _add(added: "Vectors", folder: Path) -> None:
    from painterjax.index.index import Index

    index = Index(folder)
    count = index.add(added)
    present = len(added.paintings) - count
    recall = index.facts.get("recall")
    accuracy = f"measured recall@10 {recall}" if recall else "exact"
    counts = f"{count} added" + (f", {present} present before" if present else "")
    print(f"index: {index.folder}, {counted(len(index), 'painting')} ({counts}), {accuracy}")


def _search(run: "Run", args: argparse.Namespace) -> list[dict[str, Any]]:
    from painterjax.index import lookup, opening
    from painterjax.index.attribution import Attributor
    from painterjax.index.filters import Filters
    from painterjax.run import attribution

    index = opening.open_index(run, args.index)
    query = lookup.parse_query(args.query, index, run)
    filters = Filters(args.artist, args.style, args.century, args.other_artists)
    results = lookup.answer(run, index, query, args.k, filters)
    entry = query.entry
    print(f"near {_label(lookup.describe(run, index, entry, 0.0)) if entry else args.query}")
    if run.attribution and index.values("artist"):
        (who,) = Attributor(run, index).answers(query.emb_D[None])
        print(f"painted by {attribution.line(who)}")
    print("\n".join(map(_line, results)) or "no painting of the index fits these filters")
    if args.why:
        numbers = [result["id"] for result in results]
        _explain(run, *lookup.pairs(run, index, query, numbers), args.why)
    return results


def _explain(
    run: "Run", image_Px2xSxSxC: "np.ndarray", shown: list[tuple[bytes, bytes]], path: Path
) -> None:
    """Draws the query beside each painting that was found, with what makes them alike."""
    from painterjax.pages.report import heat_maps

    if not len(image_Px2xSxSxC):
        raise InputError(f"--why {path}: no picture of what was found is there")
    with files.replacing(path) as temporary:
        heat_maps(run, image_Px2xSxSxC, shown).savefig(temporary, format="png", dpi=160)
    print(f"why: {path}")


def _line(result: dict[str, Any]) -> str:
    return f"{result['distance']:8.4f}  {_label(result)}"


def _label(result: dict[str, Any]) -> str:
    title = " - ".join(filter(None, (result["artist"], result["title"], result["date"])))
    missing = "" if Path(result["image"]).exists() else ", which is missing"
    return f"{title}  ({result['id']}: {result['image']}{missing})"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.search")
    cli.add_run_or_backbone(parser)
    parser.add_argument("--query", help="an image file, or a painting of the index")
    parser.add_argument("--k", type=int, default=10, help="how many paintings to find (10)")
    parser.add_argument("--index", type=Path, help="the index to search (RUN/index)")
    parser.add_argument("--add", type=Path, help="a file of painterjax.embed to add to --index")
    artist = parser.add_mutually_exclusive_group()
    artist.add_argument("--artist", help="find only paintings by this artist")
    artist.add_argument("--other-artists", action="store_true", help="not by the query's artist")
    parser.add_argument("--style", help="find only paintings of this style")
    parser.add_argument("--century", help="find only paintings of this century, as 1801-1900")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--why", type=Path, help="a .png to draw, with heat maps of the likeness")
    args = parser.parse_args(argv)
    if args.query is None and args.add is None:
        raise InputError("--query or --add is required; see --help")
    if args.why is not None and args.why.suffix != ".png":
        raise InputError(f"--why is {args.why}: its name must end in .png")
    if args.add is not None and args.index is None:
        raise InputError("--add needs --index, the folder to make or extend")
    if args.add is not None and args.index.resolve() == (args.run / "index").resolve():
        raise InputError(
            f"--index {args.index} is the run's own index of its store: choose another for --add"
        )
    if args.k < 1:
        raise InputError(f"--k is {args.k}: must be at least 1")
    return args


if __name__ == "__main__":
    cli.run(main, "search")
