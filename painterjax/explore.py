"""Serves a run as a web page: a map of paintings, nearest paintings, likely artists, comparisons.

    python -m painterjax.explore --run RUN [--images DIR | --index INDEX] [--port 8000]
        [--host 127.0.0.1]

Example:

    python -m painterjax.explore --run runs/quickstart

prints the page's address, http://127.0.0.1:8000/, and serves it until Ctrl-C. The page shows the
paintings of the run's store; the first start embeds them into RUN/index. --images shows a folder of
your own, which it embeds into RUN/shown, and --index an index that painterjax.search made. Uploaded
images stay in memory, and only until they are answered. --host 0.0.0.0 exposes the page to your
network, without authentication.
"""

import argparse
from pathlib import Path

from painterjax.common import cli
from painterjax.common.errors import InputError


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.explore`."""
    args = _parse(argv)
    # Here, since they import JAX, which --help and wrong usage do without.
    from painterjax.distributed import compilation
    from painterjax.index.index import Index
    from painterjax.pages import app, gallery, server
    from painterjax.run.untrained import open_run

    compilation.keep_on_disk()
    with server.listen(args.host, args.port) as listener:
        run = open_run(args.run)
        index = Index(args.index) if args.index else None
        if args.images:
            index = gallery.index_of_folder(run, args.images, workers=args.workers)
        application = app.application(gallery.open_gallery(run, index), host=args.host)
        addresses = " and ".join(server.addresses(args.host, listener.getsockname()[1]))
        print(f"explore: {addresses} shows {args.run}; press Ctrl-C to stop", flush=True)
        server.server(application).run(sockets=[listener])
        print("\nexplore: stopped")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "", prog="python -m painterjax.explore")
    cli.add_run_or_backbone(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--images", type=Path, help="a folder of images to show, at any depth")
    shown.add_argument("--index", type=Path, help="the index to show (RUN/index)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (this machine)")
    cli.add_workers(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port is {args.port}: must be from 0 (any free port) to 65535")
    return args


if __name__ == "__main__":
    cli.run(main, "explore")
