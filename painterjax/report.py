"""Writes what a run learned as one page that opens anywhere, and its plots as PNGs.

    python -m painterjax.report --run RUN

Example:

    python -m painterjax.report --run runs/quickstart

writes runs/quickstart/report.html, which needs no network, and runs/quickstart/report/*.png.
"""

from pathlib import Path

from painterjax.common import cli
from painterjax.distributed import compilation
from painterjax.pages import report as pages_report


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.report`."""
    compilation.keep_on_disk()
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.report")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    run = parser.parse_args(argv).run
    pages_report.report(run)
    print(f"report: {run / 'report.html'}")


if __name__ == "__main__":
    cli.run(main, "report")
