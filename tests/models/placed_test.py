# SPDX-License-Identifier: Apache-2.0
"""A batch is held where its mesh has it, and a model without one is not touched; what that saves: `sharding_test`."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from perceiver_jax.models.placed import by_example


@pytest.mark.parametrize(
    ("sizes", "kind", "rows", "specs"),
    [
        ((1, 1, 2), AxisType.Auto, 8, []),
        ((2, 4, 1), AxisType.Auto, 8, [("data", "fsdp")]),
        ((2, 4, 1), AxisType.Auto, 12, []),
        ((2, 4, 1), AxisType.Manual, 8, []),
    ],
)
def test_a_batch_is_held_where_the_mesh_divides_it(sizes, kind, rows, specs):
    activations = jnp.zeros((rows, 3, 5))
    assert by_example(activations) is activations
    with jax.sharding.use_abstract_mesh(AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=(kind,) * 3)):
        equations = jax.make_jaxpr(by_example)(activations).eqns
    assert [equation.params["sharding"].spec[0] for equation in equations] == specs
