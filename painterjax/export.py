"""Writes a run's network for other programs: as StableHLO, as safetensors, and with a model card.

    python -m painterjax.export --run RUN --output DIR

Example:

    python -m painterjax.export --run runs/quickstart --output runs/exported

writes the folder runs/exported, with all files or not at all:

    embedder.stablehlo    uint8 N x S x S x 3 to float32 N x D for any N, on CPUs and NVIDIA GPUs;
                          jax.export.deserialize reads it, without painterjax
    model.safetensors     parameters and BatchNorm statistics, float32; painterjax.load reads them
    embedder.json         the run, the config, S, D, the calibration, the preprocessing, and how to
                          load the others
    README.md             a model card, as Hugging Face reads it: data, figures, limits, license
"""

from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.export`."""
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.export")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write")
    args = parser.parse_args(argv)
    if args.output.exists():
        raise InputError(f"--output {args.output} exists: delete it or choose another")
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.run import exported
    from painterjax.run.load import load_run

    compilation.keep_on_disk()
    exported.export(load_run(args.run), args.output)
    print(f"export: {args.output}")


if __name__ == "__main__":
    cli.run(main, "export")
