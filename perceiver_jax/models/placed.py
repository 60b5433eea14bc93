# SPDX-License-Identifier: Apache-2.0
"""Where activations lie: an example whole on one device, so that a mesh moves parameters to them and not them.

Parameters that are split over the devices of the batch (`mesh.fsdp`) would else hand their split to the features of
what they are multiplied with, which each layer would then gather, the whole batch at a time. What `mesh.tensor` and
`mesh.sequence` split inside a layer is left to XLA.
"""

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

from perceiver_jax.models.target import batch_axes


def by_example(activations: Shaped[Array, "batch *rest"]) -> Shaped[Array, "batch *rest"]:
    """The same, with the batch split over the ambient mesh; as they come without one or where it does not divide."""
    axes = batch_axes(activations.shape[0])
    if not axes:
        return activations
    rest = (P.UNCONSTRAINED,) * (activations.ndim - 1)
    return jax.lax.with_sharding_constraint(activations, P(axes, *rest))
