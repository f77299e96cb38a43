"""Shows a run as a web page: a map of paintings, what hangs near, whose style, and by one hand?

    python -m painterjax.explore --run RUN [--port 8000] [--host 127.0.0.1]

Example:

    python -m painterjax.explore --run runs/quickstart

prints where the page is, http://127.0.0.1:8000/, and serves it until Ctrl-C. The paintings are
those of the run's store, which are embedded into RUN/index the first time. Images that are
uploaded stay in memory, and only until they are answered. --host 0.0.0.0 lets other machines look.
"""

import argparse
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError
from painterjax.distributed import compilation
from painterjax.pages import app, gallery


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.explore`."""
    compilation.keep_on_disk()
    args = _parse(argv)
    with app.listening(args.host, args.port) as listening:
        application = app.application(gallery.open_run(args.run), host=args.host)
        places = " and ".join(app.addresses(args.host, listening.getsockname()[1]))
        print(f"explore: {places} shows {args.run}; Ctrl-C ends it", flush=True)
        app.server(application).run(sockets=[listening])
        print("\nexplore: ended")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.explore")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train wrote")
    parser.add_argument("--port", type=int, default=8000, help="where the page is (8000)")
    parser.add_argument("--host", default="127.0.0.1", help="who can see it (this machine)")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port is {args.port}: must be from 0, any that is free, to 65535")
    return args


if __name__ == "__main__":
    cli.run(main, "explore")
