# SPDX-License-Identifier: Apache-2.0
"""The mesh decides before the machine: what is compiled for other devices is built for them."""

import jax

from perceiver_jax.models.target import platform
from perceiver_jax.training.sharding import make_mesh


def test_the_devices_of_the_mesh_win_over_the_default(monkeypatch):
    assert platform() == jax.default_backend()
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    seen = [platform()]
    mesh = make_mesh()
    with jax.set_mesh(mesh):
        seen.append(platform())
        jax.jit(lambda x: seen.append(platform()) or x)(1.0)
    assert seen == ["tpu", *[mesh.devices.flat[0].platform] * 2]
