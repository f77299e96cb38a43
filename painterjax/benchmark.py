"""Measures how fast a recipe trains on this machine, stage by stage.

    python -m painterjax.benchmark --config configs/NAME.py [--image-size S] [--json FILE]
        [--profile DIR] [--config.key=value ...]

Example:

    python -m painterjax.benchmark --config configs/quickstart.py --image-size 64

prints a table. --image-size measures on random images of S pixels instead of the recipe's store;
--json also writes the figures to a file; --profile writes a trace for TensorBoard or Perfetto.
"""

from pathlib import Path

from painterjax.common import cli, files
from painterjax.common.config import Config
from painterjax.common.errors import InputError
from painterjax.data import images
from painterjax.data.store import Split, open_store
from painterjax.model.trainable import keeps_backbone
from painterjax.run import config_checks, features, speed


def main(argv: list[str]) -> None:
    """Runs the command line `painterjax.benchmark`."""
    optional = {
        "image-size": "measure on random images of this size",
        "json": "write the figures here as well",
        "profile": "write a trace to this folder",
    }
    config: Config
    config, given = cli.config_and_options(argv, doc=__doc__ or "", required={}, optional=optional)
    config_checks.check_keys(config)
    size, profile = given["image-size"], given["profile"]
    path = Path(given["json"]) if given["json"] else None
    cli.check_json(path)
    if profile:
        _make_folder(profile)
    split = _random_split(size) if size else _split_of_store(config)
    figures = speed.measure(config, split, profile=profile)
    print(table(figures))
    if path:
        files.write_json(path, figures)


def _split_of_store(config: Config) -> Split:
    """The training paintings, with features where the backbone is frozen."""
    store = open_store(config.data.store)
    if keeps_backbone(config):
        config_checks.check(config, image_size=store.image_size)
        store = features.with_features(config, store, ("train",))
    return store.splits["train"]


def _make_folder(profile: str) -> None:
    """Makes the folder of --profile, now rather than when all is measured."""
    try:
        Path(profile).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--profile is {profile!r}: no folder ({error.strerror})") from error


def _random_split(size: str) -> Split:
    """The random images that --image-size asks for."""
    if size not in map(str, range(1, images.MAX_SIZE + 1)):
        limits = f"1 to {images.MAX_SIZE}"
        raise InputError(f"--image-size is {size!r}: must be a whole number of pixels, {limits}")
    try:
        return speed.random_split(int(size))
    except MemoryError as error:
        raise InputError(f"--image-size is {size}: too much for memory, lower it") from error


def table(figures: speed.Figures) -> str:
    """Returns figures as lines of text."""
    environment, flop = figures["environment"], figures["flop"]
    lines = [
        f"{figures['images_per_step']} images of {figures['image_size']} pixels a step,"
        f" {figures['dtype']}, on {environment['device']['kind']},"
        f" jax {environment['packages']['jax']}, Python {environment['python']}",
        f"  {'':12}{'median ms':>12}{'10 %':>12}{'90 %':>12}{'images/s':>14}{'tuples/s':>14}",
    ]
    for stage in ("step", "sampling", "pipeline", "loop"):
        ms = figures[stage]["ms"]
        times = "".join(f"{ms[key]:12.3f}" for key in ("median", "p10", "p90"))
        rates = f"{figures[stage]['images_per_s']:14,.0f}{figures[stage]['tuples_per_s']:14,.0f}"
        lines.append(f"  {stage:12}{times}{rates}")
    wait = figures["loop"]["data_wait_ms"]
    peak = "unknown" if flop["of_peak"] is None else f"{100 * flop['of_peak']:.1f} %"
    lines += [
        f"  compilation {figures['compile_s']:.1f} s, at a second start"
        f" {figures['cached_compile_s']:.1f} s, dispatch {figures['dispatch_ms']:.2f} ms a"
        f" step, wait for data {wait:.3f} ms ({100 * wait / figures['loop']['ms']['median']:.2f} %"
        f" of a step), a checkpoint holds the loop for {figures['checkpoint_hold_ms']:.0f} ms",
        f"  {flop['counted_per_image'] / 1e9:.2f} GFLOP an image counted,"
        f" {flop['compiler_per_image'] / 1e9:.2f} by the compiler;"
        f" {flop['per_s'] / 1e9:,.0f} GFLOP/s, of the device's peak: {peak};"
        f" peak memory {figures['memory_bytes'] / 1e9:.2f} GB",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, "benchmark")
