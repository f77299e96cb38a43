"""Scores pairs of paintings for Kaggle's Painter by Numbers: are both by one artist?

    python -m painterjax.submit --run RUN --pairs FILE --images DIR --output FILE

Example:

    python -m painterjax.submit --run runs/pbn --pairs submission_info.csv --images test
        --output submission.csv

reads index, image1 and image2 of each pair and writes index and sameArtist, the probability, in the
same order. The images of DIR are embedded first, into OUTPUT.npz; what is there already is taken
from there. A pair with an image that is missing or broken gets 0.5; OUTPUT.missing.csv names these
images, each with the reason.
"""

import argparse
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.distributed import compilation
from painterjax.run import embed as run_embed
from painterjax.run import submission
from painterjax.run.evaluation import needed_calibration
from painterjax.run.load import load_run


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.submit`."""
    compilation.keep_on_disk()
    args = _parse(argv)
    _, origin = run_embed.of_run(args.run)
    calibration = needed_calibration(args.run, step=origin["step"])
    names = submission.image_names(args.pairs)
    submission.check_images(names, args.images)
    embedded_path = args.output.with_name(args.output.name + ".npz")
    embedded, rejected = run_embed.embed_folder(
        load_run(args.run), args.images, embedded_path, workers=args.workers
    )
    reasons = {Path(file).name: reason for file, reason in rejected.items()}
    missing = {
        name: reasons.get(name, "no such file")
        for name in sorted(names - {Path(painting.file).name for painting in embedded.paintings})
    }
    if len(missing) == len(names):
        raise InputError(f"no image of {args.pairs} can be read: see {embedded_path}.rejected.csv")
    submission.write_scores(args.pairs, args.output, embedded, calibration)
    submission.write_missing(args.output, missing)
    print(f"submission: {args.output}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.submit")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--pairs", type=Path, required=True, help="submission_info.csv")
    parser.add_argument("--images", type=Path, required=True, help="the folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the table to write")
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if not args.pairs.is_file():
        raise InputError(f"--pairs {args.pairs} is no file")
    if args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    return args


if __name__ == "__main__":
    cli.run(main, "submit")
