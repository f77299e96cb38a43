"""The mesh of devices that train together: each has its share of a batch and all of the rest."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from painterjax.distributed import compilation

AXIS = "data"


def of_all_devices() -> Mesh:
    """Returns the mesh of all devices of all processes, one process after the other."""
    return Mesh(np.array(jax.devices()), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_along(mesh: Mesh, axis: int) -> NamedSharding:
    """Returns the sharding that gives each device an equal part of an axis."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))


def by_rows(mesh: Mesh | None, table_NxM: jax.Array) -> jax.Array:
    """Gives each device an equal part of a table's rows; without a mesh nothing is divided.

    XLA then divides in the same way what the table is computed from, and what from the table.
    """
    if mesh is None:
        return table_NxM
    return jax.lax.with_sharding_constraint(table_NxM, split_along(mesh, 0))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Gives every device the whole of each array, which all processes have alike."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(replicated(mesh), np.asarray(x)), tree
    )


def local(tree: Any) -> Any:
    """Returns replicated arrays as those of this process's first device alone."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def own_part(mesh: Mesh, count: int) -> slice:
    """Returns which of `count` items, split over all devices, lie on those of this process.

    >>> own_part(of_all_devices(), 24)
    slice(0, 24, None)
    """
    devices = mesh.devices.flat
    places = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
    each = count // mesh.size
    return slice(places[0] * each, (places[-1] + 1) * each)


def sum_of_processes(array: np.ndarray) -> np.ndarray:
    """Returns the sum of an array over all processes, which call it together."""
    if jax.process_count() == 1:
        return array
    # One device of each process adds, so that each process has one copy.
    device_by_process = {device.process_index: device for device in reversed(jax.devices())}
    devices = [device_by_process[process] for process in sorted(device_by_process)]
    mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
    with jax.enable_x64(True):
        share_PxX = jax.make_array_from_process_local_data(split_along(mesh, 0), array[None])
        add = compilation.jit(
            lambda x_PxX: x_PxX.sum(axis=0, dtype=x_PxX.dtype), out_shardings=replicated(mesh)
        )
        return np.asarray(local(add(share_PxX)))
