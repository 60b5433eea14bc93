# SPDX-License-Identifier: Apache-2.0
"""Objects without labels: an image taken apart into slots and put together again (Locatello et al. 2020, section 4.1).

The loss is the mean squared error over pixels and colours of images from -1 to 1. Where the batch has the true objects,
an evaluation scores how well the slots' masks, the largest at each pixel, are these objects.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_jax.data.spec import Spec
from perceiver_jax.metrics import segmentation
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.models.slot_autoencoder import Decomposed, centered
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectDiscovery(Task):
    """Reconstruction by slots.

    Attributes:
        max_objects: the most an image has, the background not counted.
        num_slots, num_iterations: in evaluation, instead of the model's; None is the model's.
    """

    max_objects: int = 0
    num_slots: int | None = None
    num_iterations: int | None = None
    rng_streams: ClassVar[tuple[str, ...]] = ("slots",)

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The image."""
        return {"inputs": batch["image"]}

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """Mean squared error of every image."""
        mse = self._error(self._decompose(variables, batch, rngs, train), batch)
        return mse, Aux({"loss": mse, "mse": mse}, {})

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """The error and, where the true objects are known, `ari`, `fg_ari`, `miou` and `mbo`.

        Images without an object count for `ari` alone.
        """
        decomposed = self._decompose(variables, batch, rngs, train=False)
        mse = self._error(decomposed, batch)
        return {"loss": mse, "mse": mse} | (self._scores(decomposed, batch) if "objects" in batch else {})

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`image`, `recons`, `masks`, `slots` and `attention` of every iteration."""
        return self._decompose(variables, batch, rngs, train=False)._asdict()

    def notes(self, spec: Spec) -> list[str]:
        """Whether there are enough slots."""
        num_slots = self.num_slots or self.model.slot_attention.num_slots
        if "objects" not in spec.arrays or num_slots > self.max_objects:
            return []
        return [
            f"WARNING: {num_slots} slots for up to {self.max_objects} objects and the background: some will share a "
            f"slot. Set config.model.num_slots={self.max_objects + 1} or more."
        ]

    def _decompose(self, variables: Variables, batch: Batch, rngs: Rngs, train: bool) -> Decomposed:
        chosen = {} if train else {"num_slots": self.num_slots, "num_iterations": self.num_iterations}
        return self.model.apply(variables, **self.inputs(batch), **chosen, train=train, rngs=rngs)

    def _error(self, decomposed: Decomposed, batch: Batch) -> Mean:
        squared = jnp.square(decomposed.image - centered(batch["image"]))
        return Mean.of(squared.mean((1, 2, 3)), batch["weight"])

    def _scores(self, decomposed: Decomposed, batch: Batch) -> dict[str, Mean]:
        true, segments = batch["objects"], segments_of(decomposed.masks)
        flat = (x.reshape(len(x), -1).astype(jnp.int32) for x in (true, segments))
        shared = segmentation.shared_pixels(*flat, self.max_objects + 1, decomposed.masks.shape[1])
        present = shared.sum(2)[:, 1:] > 0
        overlap = segmentation.overlaps(shared)[:, 1:]
        with_objects = batch["weight"] * present.any(1)
        return {
            "ari": Mean.of(segmentation.adjusted_rand_index(shared), batch["weight"]),
            "fg_ari": Mean.of(segmentation.adjusted_rand_index(shared[:, 1:]), with_objects),
            "miou": Mean.of(segmentation.mean_matched_overlap(overlap, present), with_objects),
            "mbo": Mean.of(segmentation.mean_best_overlap(overlap, present), with_objects),
        }


def segments_of(masks: Float[Array, "batch num_slots height width 1"]) -> Int[Array, "batch height width"]:
    """The slot with the largest share at each pixel."""
    return jnp.argmax(masks[..., 0], axis=1)
