"""Embeds paintings: a split of a run's store, or any folder of images.

    python -m painterjax.embed --run RUN (--images DIR | --split test) --output FILE

Example:

    python -m painterjax.embed --run runs/quickstart --split test --output runs/vectors.npz

writes a .npz with emb_NxD (float32), file, artist, title, style, genre and date of each painting,
and origin, the run they come from. A FILE.parquet is a table with a column `embedding`, a list of D
numbers, and the same others. FILE.rejected.csv lists what cannot be read of a folder.
Interrupt it whenever you like: the same command continues. If the images of a folder differ from
those in FILE, it embeds what is new or changed, by name and SHA-256, and drops what is gone.
"""

from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.data import catalog


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.embed`."""
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.embed")
    cli.add_run_or_backbone(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, help="a folder of images, at any depth")
    what.add_argument("--split", choices=catalog.SPLITS, help="of the run's store")
    parser.add_argument("--output", type=Path, required=True, help="the .npz or .parquet to write")
    cli.add_workers(parser, or_ray=True)
    args = parser.parse_args(argv)
    if args.output.suffix not in (".npz", ".parquet"):
        raise InputError(f"--output is {args.output}: its name must end in .npz or .parquet")
    if args.split and args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    if args.split and args.ray:
        raise InputError("--ray decodes --images, of which --split has none: leave it out")
    workers = cli.connected_workers(args)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.run import embed as run_embed
    from painterjax.run.untrained import open_run

    compilation.keep_on_disk()
    run = open_run(args.run)
    if args.split:
        run_embed.embed_split(run, args.split, args.output)
    else:
        run_embed.embed_folder(run, args.images, args.output, workers=workers)


if __name__ == "__main__":
    cli.run(main, "embed")
