"""Writes a report of a run: one HTML page that opens offline, and its plots as PNG files.

    python -m painterjax.report --run RUN

Example:

    python -m painterjax.report --run runs/quickstart

writes runs/quickstart/report.html, which needs no network, and runs/quickstart/report/*.png.
"""

from pathlib import Path

from painterjax.common import cli


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.report`."""
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.report")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    run = parser.parse_args(argv).run
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.pages.report import write_report
    from painterjax.run.load import load_run

    compilation.keep_on_disk()
    write_report(load_run(run))
    print(f"report: {run / 'report.html'}")


if __name__ == "__main__":
    cli.run(main, "report")
