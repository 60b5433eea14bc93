# SPDX-License-Identifier: Apache-2.0
"""The mesh and every rule of what lies where on it. Models know no devices; only this file does.

One mesh with the axes data, fsdp, sequence and tensor; any of them may be 1. The batch is split over data and fsdp,
and the length of its examples over sequence (`models.attention` combines what the parts attend to; latents and
parameters lie whole on each of its devices).
A parameter, its moments and its average are split over fsdp along their largest axis that divides; small ones are
replicated, since gathering them costs more than storing them. Projections are split over tensor along the heads of an
attention and the hidden width of an MLP, so that each device computes its part of both and only their outputs are added
up (Megatron-LM, section 3, https://arxiv.org/abs/1909.08053); a width that does not divide is not split.
"""

import collections
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from perceiver_jax.errors import ConfigError
from perceiver_jax.models import stacked_axes

AXES = ("data", "fsdp", "sequence", "tensor")
MIN_SHARDED_SIZE = 2**14
"""Elements; a smaller parameter is replicated over fsdp."""
INTO_HIDDEN = ("query", "key", "value", "hidden", "mlp_hidden")
"""Projections whose outputs are heads or hidden units: these are split over tensor."""
FROM_HIDDEN = ("out", "mlp_out")
"""Projections that take them as inputs."""


def make_mesh(
    *, data: int = -1, fsdp: int = 1, sequence: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh over all devices of all processes, or over others; `data=-1` takes what the other axes leave.

    Raises:
        ConfigError: the axes do not cover the devices, or not the slices that these are of.
    """
    devices = jax.devices() if devices is None else devices
    sizes, count = [data, fsdp, sequence, tensor], len(devices)
    rest = fsdp * sequence * tensor
    if data == -1 and rest > 0 and count % rest == 0:
        sizes[0] = count // rest
    if min(sizes) < 1 or int(np.prod(sizes)) != count:
        asked = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, (data, fsdp, sequence, tensor), strict=True))
        raise ConfigError(f"mesh {asked} does not cover {count} devices: their product must be {count}, or data=-1.")
    return Mesh(arranged(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def arranged(sizes: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
    """The devices in the shape of a mesh with the sizes of `AXES`: neighbours along the last axes are the closest.

    Several slices (TPU slices, or machines with GPUs, each a slice to XLA) are joined by the slower network: data goes
    over them as far as it divides, then fsdp, which move gradients and parameters, never the axes inside a layer.

    Raises:
        ConfigError: data and fsdp do not split over the slices, or these are of different sizes.
    """
    held = collections.Counter(getattr(device, "slice_index", 0) for device in devices)
    slices = len(held)
    if slices == 1:
        return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    if len(set(held.values())) > 1:
        raise ConfigError(
            f"slices (or machines) of {', '.join(map(str, sorted(set(held.values()))))} devices make no mesh: expected "
            "as many in each. Start fewer processes on the larger ones, or leave the smaller ones out."
        )
    over_data = math.gcd(sizes[0], slices)
    over_fsdp = math.gcd(sizes[1], slices // over_data)
    if over_data * over_fsdp != slices:
        raise ConfigError(
            f"mesh data={sizes[0]} x fsdp={sizes[1]} does not split over {slices} slices (of TPUs, or machines with "
            f"GPUs). Use config.mesh.data and config.mesh.fsdp whose product is a multiple of {slices}, and smaller "
            "config.mesh.sequence and config.mesh.tensor."
        )
    outer = (over_data, over_fsdp, 1, 1)
    inner = [size // over for size, over in zip(sizes, outer, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over data and fsdp."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def array_sharding(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """Of one array of a batch: rows as `batch_sharding`, its second axis over sequence where that divides it."""
    if len(shape) > 1 and mesh.shape["sequence"] > 1 and shape[1] % mesh.shape["sequence"] == 0:
        return NamedSharding(mesh, P(("data", "fsdp"), "sequence"))
    return batch_sharding(mesh)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same value everywhere."""
    return NamedSharding(mesh, P())


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


class Share(NamedTuple):
    """Which of how many parts of a batch a process loads; two that hold the same rows load the same part."""

    index: int
    count: int


@functools.cache
def batch_share(mesh: Mesh) -> Share:
    """This process's part of a batch: the rows that its devices hold.

    Raises:
        ConfigError: the devices of two processes hold some rows in common and some not.
    """
    shards: dict[int, set[int]] = {}
    for device, (rows,) in batch_sharding(mesh).devices_indices_map((batch_shards(mesh),)).items():
        shards.setdefault(device.process_index, set()).add(rows.start or 0)
    return shared(shards)[jax.process_index()]


def shared(shards: Mapping[int, set[int]]) -> dict[int, Share]:
    """Process -> its share, from the numbers of the rows that each one's devices hold."""
    parts = sorted({tuple(sorted(rows)) for rows in shards.values()})
    if len({row for part in parts for row in part}) != sum(len(part) for part in parts):
        raise ConfigError(
            "mesh: the devices of a process hold rows of a batch that another one holds in part. "
            "Use config.mesh.sequence and config.mesh.tensor that divide the number of devices of a process, or are a "
            "multiple of it."
        )
    return {process: Share(parts.index(tuple(sorted(rows))), len(parts)) for process, rows in shards.items()}


def state_shardings(abstract_state, mesh: Mesh):
    """A sharding for every leaf of a state, by its path and shape alone: moments lie where their parameter does.

    Raises:
        ConfigError: nothing of the state can be split over tensor.
    """
    fsdp, tensor = mesh.shape["fsdp"], mesh.shape["tensor"]

    def leaf_sharding(path, leaf) -> NamedSharding:
        names = tuple(_name(key) for key in path)
        spec = _partition(leaf.shape, stacked_axes(names), fsdp, _hidden_axis(names, leaf.shape, tensor))
        return NamedSharding(mesh, spec)

    shardings = jax.tree_util.tree_map_with_path(leaf_sharding, abstract_state)
    if tensor > 1 and not any("tensor" in sharding.spec for sharding in jax.tree.leaves(shardings)):
        raise ConfigError(
            f"mesh.tensor={tensor} divides the width of no attention and no MLP of the model. "
            "Use a divisor of its latent_dim, or mesh.fsdp, which splits any large parameter."
        )
    return shardings


def _hidden_axis(path: tuple[str, ...], shape: tuple[int, ...], tensor: int) -> int | None:
    """The axis of a projection that is split over `tensor` devices; None where there is none."""
    module, leaf = path[-2:] if len(path) > 1 else ("", "")
    axis = None
    if module in INTO_HIDDEN and leaf in ("kernel", "bias"):
        axis = len(shape) - 1
    elif module in FROM_HIDDEN and leaf == "kernel":
        axis = len(shape) - 2
    return axis if axis is not None and tensor > 1 and shape[axis] % tensor == 0 else None


def _partition(shape: tuple[int, ...], skip: int, fsdp: int, hidden: int | None = None) -> P:
    """`hidden` over tensor, and over fsdp the largest other axis that divides.

    Never a stacked layer axis, which a scan would gather at each iteration.
    """
    axes = {} if hidden is None else {hidden: "tensor"}
    candidates = [axis for axis in range(skip, len(shape)) if shape[axis] % fsdp == 0 and axis not in axes]
    if fsdp > 1 and candidates and np.prod(shape) >= MIN_SHARDED_SIZE:
        axes[max(candidates, key=lambda axis: (shape[axis], axis))] = "fsdp"
    return P(*(axes.get(axis) for axis in range(len(shape)))) if axes else P()


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as global arrays on the mesh."""

    def put(rows: np.ndarray) -> jax.Array:
        shape = (len(rows) * batch_share(mesh).count, *rows.shape[1:])
        return jax.make_array_from_process_local_data(array_sharding(shape, mesh), rows, shape)

    return {name: put(rows) for name, rows in batch.items()}


def put_whole(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch of which every process has all rows as global arrays on the mesh."""

    def put(rows: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(rows.shape, array_sharding(rows.shape, mesh), rows.__getitem__)

    return {name: put(rows) for name, rows in batch.items()}


def fetch(tree: Any, mesh: Mesh) -> Any:
    """Arrays as NumPy's, wherever their parts lie; every process calls it."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if all(array.is_fully_replicated or array.is_fully_addressable for array in arrays):
        return jax.device_get(tree)
    return jax.device_get(jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree))


def _name(key) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
