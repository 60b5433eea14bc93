# SPDX-License-Identifier: Apache-2.0
"""The kind of device that the program being traced is compiled for, which may be another than this machine's."""

import jax


def platform() -> str:
    """`cpu`, `gpu` or `tpu`: of the mesh in whose context this is called, else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
