"""What any number of devices must agree on: first steps, embeddings, losses and comparisons.

python -m tests.helpers.mesh STORE OUTPUT.npz [--distributed]
"""

import sys
from pathlib import Path

import numpy as np

from painterjax.data import store
from painterjax.distributed import compilation, processes
from tests.helpers import (
    comparisons_of_mesh,
    embeddings_of_mesh,
    losses_of_mesh,
    steps_of_mesh,
)  # fmt: skip

KINDS = ("steps", "embeddings", "losses", "comparisons")


def arrays(store_path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of all `steps`, `embeddings` and `losses` of training paintings; `comparisons`."""
    split = store.open_store(store_path).splits["train"]
    cases = {"steps": steps_of_mesh, "embeddings": embeddings_of_mesh, "losses": losses_of_mesh}
    found = {kind: module.all_cases(split) for kind, module in cases.items()}
    return {**found, "comparisons": comparisons_of_mesh.all_cases()}


def read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """What `arrays` returned in a process that wrote it down."""
    found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    for name, array in np.load(path).items():
        kind, case = name.split("/", maxsplit=1)
        found[kind][case] = array
    return found


if __name__ == "__main__":
    compilation.keep_on_disk()
    if "--distributed" in sys.argv:
        processes.join()
    found = arrays(Path(sys.argv[1]))
    flat = {f"{kind}/{name}": array for kind in found for name, array in found[kind].items()}
    np.savez(sys.argv[2], **flat)  # pyright: ignore[reportArgumentType]
    processes.wait_for_all()
