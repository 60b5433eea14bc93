# SPDX-License-Identifier: Apache-2.0
"""Masks of slots against the true objects of a batch."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_jax.data.spec import Spec
from perceiver_jax.metrics import segmentation
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.tasks.base import Batch


def mask_scores(
    masks: Float[Array, "batch num_slots height width 1"], batch: Batch, max_objects: int
) -> dict[str, Mean]:
    """`ari`, `fg_ari`, `miou` and `mbo`, where the batch has the true objects.

    A pixel belongs to the slot with the largest share. Images without an object count for `ari` alone.
    """
    if "objects" not in batch:
        return {}
    segments = jnp.argmax(masks[..., 0], axis=1)
    flat = (x.reshape(len(x), -1).astype(jnp.int32) for x in (batch["objects"], segments))
    shared = segmentation.shared_pixels(*flat, max_objects + 1, masks.shape[1])
    present = shared.sum(2)[:, 1:] > 0
    overlap = segmentation.overlaps(shared)[:, 1:]
    with_objects = batch["weight"] * present.any(1)
    return {
        "ari": Mean.of(segmentation.adjusted_rand_index(shared), batch["weight"]),
        "fg_ari": Mean.of(segmentation.adjusted_rand_index(shared[:, 1:]), with_objects),
        "miou": Mean.of(segmentation.mean_matched_overlap(overlap, present), with_objects),
        "mbo": Mean.of(segmentation.mean_best_overlap(overlap, present), with_objects),
    }


def slot_notes(num_slots: int, spec: Spec, max_objects: int) -> list[str]:
    """A warning where there are too few slots."""
    if "objects" not in spec.arrays or num_slots > max_objects:
        return []
    return [
        f"WARNING: {num_slots} slots for up to {max_objects} objects and the background: some will share a slot. Set "
        f"config.model.num_slots={max_objects + 1} or more."
    ]
