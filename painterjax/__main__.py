"""The console script: `painterjax <command> ...` is `python -m painterjax.<command> ...`."""

import runpy
import sys

from painterjax.common import documentation, huge_pages, signals

COMMANDS = {
    "prepare": "turn a collection of paintings into a store",
    "train": "train an embedding of painters' styles and evaluate it",
    "evaluate": "judge a run on artists seen and never seen in training",
    "embed": "write the embeddings of a split or a folder of images",
    "search": "find the nearest paintings of an index",
    "attribute": "tell who painted each image, or that someone else did",
    "report": "write figures, plots and examples of a run as one page",
    "explore": "serve a web page with a map, neighbors and comparisons",
    "submit": "score pairs of paintings for Kaggle",
    "export": "write the network as StableHLO and safetensors",
    "benchmark": "measure how fast a recipe trains on this machine",
}


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    if name not in COMMANDS:
        print(f"painterjax: error: unknown command {name!r}\n{usage()}", file=sys.stderr)
        sys.exit(2)
    signals.exit_at_signals()
    huge_pages.start_with()
    del sys.argv[1]
    documentation.help_if_asked(f"painterjax.{name}")
    runpy.run_module(f"painterjax.{name}", run_name="__main__", alter_sys=True)


def usage() -> str:
    """Returns one line for each command."""
    lines = [f"  {name:10} {what}" for name, what in COMMANDS.items()]
    head = "usage: painterjax <command> [arguments]; painterjax <command> --help"
    return "\n".join([head, "", *lines])


if __name__ == "__main__":
    main()
