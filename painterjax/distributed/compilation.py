"""How steps are compiled: with what options, and kept on disk for the next start."""

import contextlib
import functools
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from painterjax.common import files

# What is left to YNNPACK, which XLA uses on CPUs alone. Its convolutions run on one core, and as of
# jax 0.10.2 some of its sums are wrong (https://github.com/jax-ml/jax/issues/39103). In 0.11.2 they
# are right, and the reference step takes 0.7 to 0.9 times as long with them.
_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
WITHOUT_YNNPACK = {_YNNPACK: ""}
_SUMS_ARE_RIGHT = jax.__version_info__ >= (0, 11, 2)
OPTIONS = {_YNNPACK: "LIBRARY_FUSION_TYPE_REDUCE"} if _SUMS_ARE_RIGHT else WITHOUT_YNNPACK
# What compiles every program of painterjax.
jit = functools.partial(jax.jit, compiler_options=OPTIONS)


def keep_on_disk() -> None:
    """Turns JAX's persistent compilation cache on, in `JAX_COMPILATION_CACHE_DIR` where it is set.

    Else it lies in `painterjax` of the user's cache folder, by kind of processor: what was compiled
    for one may not run on another that shares the folder. Where that cannot be written there is
    no cache, and training compiles as it always did.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        try:
            folder = files.cache_home() / "painterjax" / _processor()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # Not to be written to, or a user without a home.
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    _keep_everything()


@contextlib.contextmanager
def kept_in(folder: str) -> Iterator[None]:
    """Keeps what is compiled within in `folder` and nowhere else."""
    before = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009  (made at run time)
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", folder)
    _keep_everything()
    try:
        yield
    finally:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", before)


def _keep_everything() -> None:
    """By default JAX leaves out what compiles in less than a second."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """A short name for what the processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
