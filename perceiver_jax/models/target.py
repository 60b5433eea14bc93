# SPDX-License-Identifier: Apache-2.0
"""The devices that the program being traced is compiled for, which may be others than this machine's."""

import math

import jax
from jax.sharding import AxisType

BATCH_AXES = ("data", "fsdp")
"""Of the mesh: a batch lies split over them."""


def platform() -> str:
    """`cpu`, `gpu` or `tpu`: of the mesh in whose context this is called, else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def batch_axes(batch_size: int) -> tuple[str, ...]:
    """The axes of the ambient mesh that split a batch evenly; () where none does, or XLA does not lay out the axis."""
    mesh = jax.sharding.get_abstract_mesh()
    laid_out = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    axes = tuple(axis for axis in BATCH_AXES if laid_out.get(axis) == AxisType.Auto and mesh.shape[axis] > 1)
    return axes if axes and batch_size % math.prod(mesh.shape[axis] for axis in axes) == 0 else ()
