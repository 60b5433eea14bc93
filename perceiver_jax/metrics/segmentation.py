# SPDX-License-Identifier: Apache-2.0
"""How well predicted segments are the true objects: one number per image, in float32, under jit.

All are computed from the counts of pixels that a true object and a predicted segment share. Object 0 is the background.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_jax.metrics.assignment import matched_costs


def shared_pixels(
    true: Int[Array, "batch pixels"],
    predicted: Int[Array, "batch pixels"],
    num_true: int,
    num_predicted: int,
) -> Float[Array, "batch num_true num_predicted"]:
    """How many pixels object i and segment j have in common; exact up to 16.7 million."""
    rows, columns = jax.nn.one_hot(true, num_true), jax.nn.one_hot(predicted, num_predicted)
    return jnp.einsum("bpt,bps->bts", rows, columns)


def adjusted_rand_index(shared: Float[Array, "batch num_true num_predicted"]) -> Float[Array, "batch"]:
    """Agreement on which pairs of pixels belong together, 0 by chance and 1 at best (Hubert and Arabie 1985).

    Where it is 0 / 0, all pixels in one part or each in its own on both sides, it is 1, as in scikit-learn. FG-ARI is
    this of the rows from 1 on: pixels of the true background do not count, whatever they are predicted as.

    Each kind of pair is a sum of its own, of counts alone: differences of all pairs would lose a small object's in
    float32.
    """
    rows, columns, total = (shared.sum(axes, keepdims=True) for axes in (2, 1, (1, 2)))

    def pairs(others: Array) -> Array:
        """Twice how many have one pixel in a cell and the other among `others`, of each cell."""
        return (shared * others).sum((1, 2))

    together, apart = pairs(shared - 1), pairs(total - rows - columns + shared)  # on both sides
    divided, merged = pairs(rows - shared), pairs(columns - shared)
    gained = 2 * (together * apart - divided * merged)
    most = (together + divided) * (divided + apart) + (together + merged) * (merged + apart)
    alike = divided + merged == 0
    return jnp.where(alike, 1.0, gained / jnp.where(alike, 1.0, most))


def overlaps(shared: Float[Array, "batch num_true num_predicted"]) -> Float[Array, "batch num_true num_predicted"]:
    """Intersection over union of every object and segment; 0 where both are empty."""
    union = shared.sum(2, keepdims=True) + shared.sum(1, keepdims=True) - shared
    return shared / jnp.maximum(union, 1)


def mean_best_overlap(
    overlap: Float[Array, "batch num_true num_predicted"], present: Bool[Array, "batch num_true"]
) -> Float[Array, "batch"]:
    """mBO: the best segment's overlap of each present object (Pont-Tuset et al. 2017), averaged; 0 without one.

    Engelcke et al. 2020 call the same number mSC, mean segmentation covering.
    """
    return _mean(overlap.max(2), present)


def segmentation_covering(
    overlap: Float[Array, "batch num_true num_predicted"], size: Float[Array, "batch num_true"]
) -> Float[Array, "batch"]:
    """SC: as mBO, but objects count by their pixels (Arbelaez et al. 2011); 0 without one."""
    return (overlap.max(2) * size).sum(1) / jnp.maximum(size.sum(1), 1)


def mean_matched_overlap(
    overlap: Float[Array, "batch num_true num_predicted"], present: Bool[Array, "batch num_true"]
) -> Float[Array, "batch"]:
    """mIoU: overlaps of present objects with segments matched one to one, the best such matching; 0 without one."""
    return _mean(-matched_costs(-overlap * present[:, :, None]), present)


def grouping_consistency(
    segments: Int[Array, "seeds batch pixels"], counted: Bool[Array, "batch pixels"], num_segments: int
) -> Float[Array, "batch"]:
    """Do seeds group an image alike, whatever the names of the segments: the ARI of two seeds, mean over all pairs.

    Args:
        segments: of at least two seeds.
        counted: the pixels that are compared; without any the image has 1.
    """
    segments = jnp.where(counted, segments, -1)  # has no column
    return _over_pairs(segments, lambda a, b: adjusted_rand_index(shared_pixels(a, b, num_segments, num_segments)))


def index_consistency(
    shared: Float[Array, "seeds batch num_true num_predicted"], present: Bool[Array, "batch num_true"]
) -> Float[Array, "batch"]:
    """The share of present objects that have most pixels in the same segment in two seeds, mean over all pairs.

    Args:
        shared: `shared_pixels` of each of at least two seeds.
    """
    return _over_pairs(shared.argmax(3), lambda a, b: _mean((a == b).astype(jnp.float32), present))


def _over_pairs(values: Array, score: Callable[[Array, Array], Array]) -> Array:
    pairs = list(itertools.combinations(range(len(values)), 2))
    return sum(score(values[a], values[b]) for a, b in pairs) / len(pairs)


def _mean(values: Array, present: Array) -> Array:
    return jnp.where(present, values, 0).sum(1) / jnp.maximum(present.sum(1), 1)
