"""Published weights: read without running anything in the file, renamed, and checked whole."""

import collections
import dataclasses
import io
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from painterjax.common import checksums
from painterjax.common.errors import InputError

MAX_NAMED = 5  # keys of each kind in a message


@dataclasses.dataclass(frozen=True)
class Renaming:
    """How the arrays of a published network are called here.

    Attributes:
      pattern: a regular expression for a whole published name.
      name: ours; \\1 is the first group of the pattern.
      axes: their order here; empty where it is the same.
    """

    pattern: str
    name: str
    axes: tuple[int, ...] = ()


def rename(
    published: Mapping[str, np.ndarray],
    renamings: Sequence[Renaming],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    unused: str,
    source: str,
) -> dict[str, np.ndarray]:
    """Returns published arrays by our names, with our axes.

    Args:
      published: the arrays of a file.
      renamings: the first whose pattern fits a name counts.
      shapes: of every array that the network has.
      unused: a regular expression for published names that the network does not need.
      source: the file's name, for messages.

    Raises:
      InputError: arrays are missing, left over or of other shapes; the message names all kinds.
    """
    found: dict[str, np.ndarray] = {}
    extra = []
    for key, array in published.items():
        fitting = (r for r in renamings if re.fullmatch(r.pattern, key))
        if renaming := next(fitting, None):
            name = re.sub(renaming.pattern, renaming.name, key)
            while array.ndim > len(shapes.get(name, array.shape)) and len(array) == 1:
                array = array[0]  # Some keep an axis for the batch.
            fits = renaming.axes and array.ndim == len(renaming.axes)
            found[name] = array.transpose(renaming.axes) if fits else array
        elif not re.fullmatch(unused, key):
            extra.append(key)
    extra += sorted(found.keys() - shapes.keys())
    wrong = {
        "missing": sorted(shapes.keys() - found.keys()),
        "unknown": extra,
        "of another shape": [
            f"{name} ({found[name].shape}, expected {shape})"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ],
    }
    if problems := [f"{kind} are {_some(names)}" for kind, names in wrong.items() if names]:
        raise InputError(f"{source} does not fit the backbone: {'; '.join(problems)}")
    return found


def read_torch(path: Path, *, sha256: str) -> dict[str, np.ndarray]:
    """Reads a file that torch.save wrote before PyTorch 1.6, without torch.

    The file is a row of pickles, then the numbers of each array. Only the four names that such a
    dictionary of arrays needs are looked up, and of them nothing of torch is called.

    Raises:
      InputError: the file is missing or has another SHA-256.
    """
    try:
        found = checksums.sha256(path)
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if found != sha256:
        raise InputError(f"{path} has SHA-256 {found}, expected {sha256}: install it again")
    for _ in range(3):  # A magic number, the version of the format, the sizes of C's types.
        _Unpickler(content).load()
    reader = _Unpickler(content)
    arrays, keys = reader.load(), _Unpickler(content).load()
    for key in keys:
        (count,) = np.frombuffer(content.read(8), "<i8")
        storage = reader.storages[key]
        storage[:] = np.frombuffer(content.read(int(count) * storage.itemsize), storage.dtype)
    return dict(arrays)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file, bfloat16 as float32; raises InputError where it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            keys = file.keys()
            return {key: np.asarray(file.get_tensor(key), np.float32) for key in keys}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}): fetch it again"
        ) from error


class _Unpickler(pickle.Unpickler):
    """Reads the pickles of such a file; arrays are filled later."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is not needed for arrays")
        return known[module, name]

    def persistent_load(self, pid: tuple[Any, ...]) -> np.ndarray:
        _, dtype, key, _, count, *_ = pid
        return self.storages.setdefault(key, np.zeros(count, dtype))


def _view(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> np.ndarray:
    """An array of a shape, as a window on a storage."""
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
