# SPDX-License-Identifier: Apache-2.0
"""Masks of slots against the true objects of a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_jax.data.spec import Spec
from perceiver_jax.metrics import segmentation
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.tasks.base import Batch

Masks = Float[Array, "batch num_slots height width 1"]


def segments_of(masks: Masks) -> Int[Array, "batch height width"]:
    """The slot with the largest share at each pixel."""
    return jnp.argmax(masks[..., 0], axis=1).astype(jnp.int32)


def mask_scores(masks: Masks, batch: Batch, max_objects: int) -> dict[str, Mean]:
    """`ari`, `fg_ari`, `miou`, `mbo` and `sc`, where the batch has the true objects.

    A pixel belongs to the slot with the largest share. Images without an object count for `ari` alone.
    """
    if "objects" not in batch:
        return {}
    shared = _shared(batch["objects"], segments_of(masks), max_objects, masks.shape[1])
    size = shared.sum(2)[:, 1:]
    present, overlap = size > 0, segmentation.overlaps(shared)[:, 1:]
    with_objects = batch["weight"] * present.any(1)
    return {
        "ari": Mean.of(segmentation.adjusted_rand_index(shared), batch["weight"]),
        "fg_ari": Mean.of(segmentation.adjusted_rand_index(shared[:, 1:]), with_objects),
        "miou": Mean.of(segmentation.mean_matched_overlap(overlap, present), with_objects),
        "mbo": Mean.of(segmentation.mean_best_overlap(overlap, present), with_objects),
        "sc": Mean.of(segmentation.segmentation_covering(overlap, size), with_objects),
    }


def consistency(
    segments: Int[Array, "seeds batch height width"],
    batch: Batch,
    max_objects: int,
    num_slots: int,
    *,
    told_apart: bool,
) -> dict[str, Mean]:
    """`slot_consistency`, over true objects where they are known, else over all pixels; `slot_index_consistency`.

    Args:
        segments: of each of at least two draws of the first slots.
        told_apart: whether slots have something of their own, so that their index means anything.
    """
    flat, weight = segments.reshape(*segments.shape[:2], -1), batch["weight"]
    if "objects" not in batch:
        everywhere = jnp.ones(flat.shape[1:], bool)
        return {"slot_consistency": Mean.of(segmentation.grouping_consistency(flat, everywhere, num_slots), weight)}
    inside = batch["objects"].reshape(flat.shape[1:]) > 0
    weight = weight * inside.any(1)
    found = {"slot_consistency": Mean.of(segmentation.grouping_consistency(flat, inside, num_slots), weight)}
    if told_apart:
        shared = jax.vmap(lambda part: _shared(batch["objects"], part, max_objects, num_slots))(segments)[:, :, 1:]
        present = shared[0].sum(2) > 0
        same = segmentation.index_consistency(shared, present)
        found["slot_index_consistency"] = Mean.of(same, weight * present.sum(1))
    return found


def slot_notes(num_slots: int, spec: Spec, max_objects: int) -> list[str]:
    """A warning where there are too few slots."""
    if "objects" not in spec.arrays or num_slots > max_objects:
        return []
    return [
        f"WARNING: {num_slots} slots for up to {max_objects} objects and the background: some will share a slot. Set "
        f"config.model.num_slots={max_objects + 1} or more."
    ]


def _shared(true: Array, segments: Array, max_objects: int, num_slots: int) -> Float[Array, "batch num_true num_slots"]:
    flat = (x.reshape(len(x), -1).astype(jnp.int32) for x in (true, segments))
    return segmentation.shared_pixels(*flat, max_objects + 1, num_slots)
