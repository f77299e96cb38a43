"""What all commands share: how they start, how they fail, and how they read flags."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict, config_flags

from painterjax.common import documentation, files, ray_pool, signals
from painterjax.common.config import check_key, find_recipe, make_bases_importable
from painterjax.common.errors import DivergedError, InputError
from painterjax.common.process_pool import Workers

FAILED = DIVERGED = 1
USAGE_ERROR = 2
SIGNALED = 128  # plus the signal's number, as shells have it

FORBIDDEN = (errno.EACCES, errno.EPERM)
UNREADABLE = "it cannot be read, check its permissions"
READ_ONLY = "it cannot be written: choose a folder that can be written to"
REMEDIES = {
    errno.ENOENT: "there is no such file or folder: check the name, or make its folder first",
    errno.EEXIST: "exists already: delete it or choose another name",
    errno.ENOTDIR: "a part of this path is a file: it must be a folder",
    errno.EISDIR: "is a folder: give a file",
    errno.ENOTEMPTY: "is a folder that is not empty: choose another",
    errno.ENAMETOOLONG: "this name is too long: choose a shorter one",
    errno.ENOSPC: "the disk is full: free some space and run it again",
    errno.EDQUOT: "the disk's quota is used up: free some space and run it again",
    errno.EROFS: "the file system is read-only: choose a folder that can be written to",
    **dict.fromkeys(FORBIDDEN, READ_ONLY),
}
EMPTY = "is empty, perhaps by a variable that is not set"


class Parser(argparse.ArgumentParser):
    """An argument parser with the command's docstring as help and one-line errors."""

    def __init__(self, doc: str, **kwargs) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(description=doc, formatter_class=formatter, **kwargs)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def check_json(path: Path | None) -> None:
    """Refuses a --json that could not be written once all work is done."""
    if path is None:
        return
    if path.is_dir():
        state = "it is a folder"
    elif not path.parent.is_dir():
        state = "its folder does not exist, make it first"
    elif not os.access(path.parent if files.is_replaced(path) else path, os.W_OK):
        state = "it cannot be written, choose a folder that can be written to"
    else:
        return
    raise InputError(f"--json is {str(path)!r}: {state}")


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError(EMPTY)
    return Path(text)


def add_run_or_backbone(parser: argparse.ArgumentParser) -> None:
    """Adds --run, which may also name a published backbone."""
    meaning = "a folder that train wrote, or a backbone such as efficientnet_lite0"
    parser.add_argument("--run", type=Path, required=True, help=meaning)


def add_workers(parser: argparse.ArgumentParser, *, or_ray: bool = False) -> None:
    """Adds --workers: how many processes decode images; and --ray, a cluster in their place."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--workers", type=_positive, default=cores(), help="processes (all cores)")
    if or_ray:
        group.add_argument("--ray", metavar="HOST:PORT", help="decode on this Ray cluster instead")


def connected_workers(args: argparse.Namespace) -> Workers:
    """Returns what --workers or --ray asks for; call it before any work."""
    return ray_pool.connect(args.ray) if args.ray is not None else args.workers


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)


def run(
    main: Callable[[list[str]], None],
    command: str,
    leave: Callable[[int], NoReturn] = sys.exit,
) -> NoReturn:
    """Runs a command's `main` on the process's arguments and exits, by `leave`, with its status.

    A user's mistake or a failing disk ends in one line and status 2, a diverged training in one
    line and status 1, Ctrl-C and SIGTERM in one line and status 130 and 143.
    """
    signals.watch(f"painterjax.{command}")
    try:
        main(sys.argv[1:])
        status = 0
    except InputError as error:
        status = _say(USAGE_ERROR, f"painterjax.{command}: error: {error}")
    except OSError as error:
        status = _say(USAGE_ERROR, f"painterjax.{command}: error: {reason(error)}")
    except DivergedError as error:
        status = _say(DIVERGED, f"painterjax.{command}: {error}")
    except signals.Stopped as stopped:
        signals.say_stopped(stopped.number)
        status = SIGNALED + stopped.number
    except Exception:
        traceback.print_exc()
        status = FAILED
    leave(status)


def reason(error: OSError) -> str:
    """Returns what went wrong with a file, and what to do."""
    remedy = REMEDIES.get(error.errno or 0)
    if error.errno in FORBIDDEN and error.filename and not _can_be_read(error.filename):
        remedy = UNREADABLE
    name = str(error.filename) if error.filename else ""
    return ": ".join(filter(None, [name, remedy])) if remedy else str(error)


def _can_be_read(name: str) -> bool:
    """Whether a file can be; or could be, were it there."""
    if os.path.exists(name):
        return os.access(name, os.R_OK)
    return os.access(os.path.dirname(name) or ".", os.X_OK)


def _say(status: int, line: str) -> int:
    print(line, file=sys.stderr)
    return status


def config_and_options(
    argv: list[str],
    *,
    doc: str,
    required: dict[str, str],
    optional: dict[str, str] | None = None,
    switches: dict[str, str] | None = None,
) -> tuple[config_dict.ConfigDict, dict[str, Any]]:
    """Reads `--config FILE`, its overrides `--config.key=value`, and other string options.

    Args:
      argv: the arguments behind the command's name.
      doc: what `--help` prints.
      required: names of options that must be given, and what each is.
      optional: names of options that may be left out, which are None then.
      switches: names of options without a value, which are True or False.

    Raises:
      InputError: a flag, key, type or file is wrong; the message names it.
    """
    if documentation.is_asked(argv):
        print(documentation.with_recipes(doc))
        sys.exit(0)
    for word in (word for word in argv if word.startswith("--config.")):
        check_key(word.removeprefix("--config.").partition("=")[0])
    values, command = flags.FlagValues(), ["painterjax", *_with_recipe_paths(argv)]
    config_flags.DEFINE_config_file(
        "config", help_string="recipe", flag_values=values, sys_argv=command
    )
    options = {**required, **(optional or {})}
    for name, meaning in options.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    for name, meaning in (switches or {}).items():
        flags.DEFINE_bool(name, False, meaning, flag_values=values)
    try:
        positional = values(command)[1:]
        config = values["config"].value
        if config is not None:
            config.lock()  # A recipe that cannot be loaded says so at its first use.
    except Exception as error:  # A recipe is a program, and can fail with anything.
        raise InputError(f"{_reason(error)}; see --help") from error
    if config is None:
        raise InputError("--config configs/NAME.py is required; see --help")
    given = {name: values[name].value for name in (*options, *(switches or {}))}
    for name, meaning in required.items():
        if given[name] is None:
            raise InputError(f"--{name} is required: {meaning}; see --help")
    for name, value in given.items():
        if value == "":
            raise InputError(f"--{name} {EMPTY}; see --help")
    if positional:
        raise InputError(f"unexpected argument {positional[0]!r}; see --help")
    return config, given


def _with_recipe_paths(argv: list[str]) -> list[str]:
    """Replaces the recipe behind `--config` by its path, and makes its bases importable."""
    words = list(argv)
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-config") or (not equals and i + 1 == len(words)):
            continue
        path = find_recipe(value if equals else words[i + 1])
        words[i if equals else i + 1] = f"{flag}={path}" if equals else path
        make_bases_importable(Path(path))
    return words


def _reason(error: Exception) -> str:
    """What an error says, in one line; ml_collections wraps a wrong key's KeyError in another."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if isinstance(error, KeyError) and error.args:
        reason = f"unknown key {error.args[0]}"
    elif isinstance(error, flags.Error | OSError):
        # Before it ml_collections says where it looked, or has a whole traceback.
        reason = str(error).rstrip().rpartition("\n")[2]
    else:
        reason = f"{type(error).__name__}: {error}"
    return " ".join(reason.split())
