"""Tells who painted each image: artists of a collection with probabilities, or someone else.

    python -m painterjax.attribute --run RUN [--images DIR] --output FILE [--index DIR]
        [--someone-else 0.5]

Example:

    python -m painterjax.attribute --run runs/quickstart --images pictures --output runs/table.csv

compares the images below DIR, or one image, with all paintings of the run's store, or of another
index that painterjax.search made. Each row of the .csv has an image, its five most likely artists
with probabilities and their numbers of paintings, and someone else; over all artists they add up to
1. An image that is in the collection itself is no evidence for its own artist. Where the images lie
in artists' folders, the table also says how likely these are. Without --images each painting of the
collection is compared with all others, and those come first whose own artist is least likely.
--someone-else is the probability beforehand that none of the artists painted it. The images are
embedded into FILE.npz; the same command embeds only what is new or changed.
"""

import argparse
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.metrics.attribution import SOMEONE_ELSE

PRINTED = 10  # images


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.attribute`."""
    args = _parse(argv)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.index import lookup, opening
    from painterjax.index.attribution import Attributor
    from painterjax.run import attribution
    from painterjax.run.attribution import Attributed
    from painterjax.run.load import load_run

    compilation.keep_on_disk()
    run = load_run(args.run)
    index = opening.open_index(run, args.index)
    attributor = Attributor(run, index)
    if args.images is None:
        pairs = attributor.of_index(someone_else=args.someone_else)
        found = [attributed for _, attributed in pairs]
    else:
        paintings, emb_QxD = lookup.embed_images(
            run, index, args.images, args.output, workers=args.workers
        )
        answers = attributor.answers(emb_QxD, someone_else=args.someone_else)
        found = [
            Attributed.of(painting.file, painting.artist, answer)
            for painting, answer in zip(paintings, answers, strict=True)
        ]
    attribution.write_table(args.output, found)
    for each in found[:PRINTED]:
        print(attribution.line_of(each))
    if len(found) > PRINTED:
        print(f"and {len(found) - PRINTED} more")
    print(attribution.summary(found, attributor.collection, someone_else=args.someone_else))
    print(f"attribution: {args.output}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.attribute")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--images", type=Path, help="an image, or a folder (the collection itself)")
    parser.add_argument("--output", type=Path, required=True, help="the .csv to write")
    parser.add_argument("--index", type=Path, help="the collection (RUN/index, the run's store)")
    parser.add_argument(
        "--someone-else", type=float, default=SOMEONE_ELSE,
        help="its probability beforehand (0.5)",
    )  # fmt: skip
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if args.output.suffix != ".csv":
        raise InputError(f"--output is {args.output}: its name must end in .csv")
    if not 0 < args.someone_else < 1:
        raise InputError(f"--someone-else is {args.someone_else}: must be above 0 and below 1")
    return args


if __name__ == "__main__":
    cli.run(main, "attribute")
