"""Scores pairs of paintings for Kaggle's Painter by Numbers: are both by the same artist?

    python -m painterjax.submit --run RUN --pairs FILE --images DIR --output FILE

Example:

    python -m painterjax.submit --run runs/pbn --pairs submission_info.csv --images test
        --output runs/submission.csv

reads index, image1 and image2 of each pair, and writes index and sameArtist, the probability, in
the same order. The images of DIR are embedded first, into OUTPUT.npz; images embedded there by an
earlier call are not embedded again. A pair with a missing or broken image gets 0.5, and
OUTPUT.missing.csv lists these images with the reasons.

Images that training has used, that of --init-from too, are refused under any name: their scores say
nothing of new paintings. Train on a store that `prepare kaggle --split-by kaggle` made, or give
--allow-trained-on; then OUTPUT.trained_on.csv lists these images.
"""

import argparse
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.submit`."""
    args = _parse(argv)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.run import submission
    from painterjax.run.load import load_run

    compilation.keep_on_disk()
    submission.submit(
        load_run(args.run), args.pairs, args.images, args.output,
        workers=args.workers, allow_trained_on=args.allow_trained_on,
    )  # fmt: skip
    print(f"submission: {args.output}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.submit")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--pairs", type=Path, required=True, help="submission_info.csv")
    parser.add_argument("--images", type=Path, required=True, help="the folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the CSV file to write")
    parser.add_argument(
        "--allow-trained-on", action="store_true", help="score images that were trained on as well"
    )
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if not args.pairs.is_file():
        raise InputError(f"--pairs {args.pairs} is not a file: give submission_info.csv")
    if args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    return args


if __name__ == "__main__":
    cli.run(main, "submit")
