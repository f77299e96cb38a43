"""Evaluates a run on validation and test, and says how many of their artists were in training.

    python -m painterjax.evaluate --run RUN [--split test] [--floors none] [--json FILE]
    python -m painterjax.evaluate --embeddings FILE --store STORE [--split test] [--json FILE]

Example:

    python -m painterjax.evaluate --run runs/quickstart

prints a table and writes the same figures to runs/quickstart/evaluation.json. The second form
evaluates vectors of any origin: a .npy with one vector for each painting of the store, or of the
split that --split names, in the order of the store's paintings.parquet; or a .npz or .parquet
that painterjax.embed wrote.

Where all artists of a split are in train too, as those of validation are, its paintings are also
queries against those of train.

Two floors, the untrained network and color histograms, are judged as well: --floors none leaves
them out and takes a third of the time. Of a split of more paintings than the recipe's
eval.max_paintings, a sample of as many is compared with all of them.

Intervals are by bootstrap over artists. With more than 256 artists, the intervals of all pairs
resample groups of artists. With two artists there are no intervals.
"""

from pathlib import Path

from painterjax.common import cli, files
from painterjax.common.errors import InputError
from painterjax.data.catalog import JUDGED
from painterjax.data.store import open_store


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.evaluate`."""
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.evaluate")
    judged = parser.add_mutually_exclusive_group(required=True)
    judged.add_argument("--run", type=Path, help="a folder that train wrote")
    judged.add_argument("--embeddings", type=Path, help="a .npy, .npz or .parquet of vectors")
    parser.add_argument("--store", type=Path, help="what the vectors are of")
    parser.add_argument("--split", choices=JUDGED, help="only this one (both)")
    parser.add_argument(
        "--floors", choices=("both", "none"), help="whether to judge what a network must beat"
    )
    parser.add_argument(
        "--check-store", action="store_true", help="read the whole store of the run again"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args(argv)
    if (args.embeddings is None) != (args.store is None):
        raise InputError("--embeddings needs --store, and --store --embeddings; see --help")
    cli.check_json(args.json)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.run import evaluation
    from painterjax.run.load import load_run

    compilation.keep_on_disk()
    floors = None if args.floors is None else args.floors == "both"
    splits = (args.split,) if args.split else JUDGED
    if args.run:
        figures = evaluation.evaluate(
            load_run(args.run), splits=splits, floors=floors, check_store=args.check_store
        )
    else:
        store = open_store(args.store)
        figures = evaluation.evaluate_file(args.embeddings, store, splits=splits, floors=floors)
    if args.json:
        files.write_json(args.json, figures)


if __name__ == "__main__":
    cli.run(main, "evaluate")
