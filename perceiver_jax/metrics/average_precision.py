# SPDX-License-Identifier: Apache-2.0
"""Average precision of predicted sets of objects, as Slot Attention's set prediction reports it.

Locatello et al. 2020, section 4.2, and google-research/slot_attention (`average_precision_clevr`), which loops over all
detections in Python. What a detection hits depends on its own image alone, so that is found under jit; how
precise the surest detections of all images are is computed once, on the host, from every detection of the set: exact,
for any number of batches and devices. Equally sure detections count together, so that their order does not matter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Columns(NamedTuple):
    """What the columns of a property vector say, from left to right; one more, the last, says whether it is an object.

    Attributes:
        scales: of the coordinates, a column each: what 1 is in the units of the distances.
        classes: of the other properties, how many classes, a column each, the largest of which counts.
    """

    scales: tuple[float, ...]
    classes: tuple[int, ...]


def hits(
    predicted: Float[Array, "batch detections columns"],
    true: Float[Array, "batch objects columns"],
    columns: Columns,
    distances: Sequence[float],
) -> Bool[Array, "batch detections distances"]:
    """Whether a detection is an object: of the same classes, nearer than the distance, and not detected before.

    It is compared with the nearest object of its classes alone; of several detections of one object, the surest counts
    (of equally sure ones the first).
    """
    apart = jnp.where(_alike(predicted, true, columns), _apart(predicted, true, columns), jnp.inf)
    nearest, index = apart.min(2), apart.argmin(2)
    limits = jnp.asarray(distances, jnp.float32)
    near = jnp.isfinite(nearest)[..., None] & ((nearest[..., None] < limits) | jnp.isinf(limits))
    again = (index[:, :, None] == index[:, None, :]) & _before(predicted[..., -1])
    return near & ~jnp.einsum("bij,bjd->bid", again.astype(jnp.float32), near.astype(jnp.float32)).astype(bool)


def average_precision(
    confidence: Float[np.ndarray, "detections"], hit: Float[np.ndarray, "detections"], num_objects: float
) -> float:
    """The area under the best precision at a recall or beyond it, over recall; NaN where there is no object."""
    if not num_objects:
        return float("nan")
    order = np.argsort(-confidence, kind="stable")
    last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]  # of equally sure ones
    found, looked_at = np.cumsum(hit[order])[last], np.flatnonzero(last) + 1
    precision = np.maximum.accumulate((found / looked_at)[::-1])[::-1]
    return float(np.sum(np.diff(found, prepend=0) / num_objects * precision))


def _alike(predicted: Array, true: Array, columns: Columns) -> Bool[Array, "batch detections objects"]:
    """Whether all classes are the same; never with padding."""
    same, start = true[:, None, :, -1] > 0.5, len(columns.scales)
    for width in columns.classes:
        left, right = (array[..., start : start + width].argmax(-1) for array in (predicted, true))
        same, start = same & (left[:, :, None] == right[:, None, :]), start + width
    return same


def _apart(predicted: Array, true: Array, columns: Columns) -> Float[Array, "batch detections objects"]:
    scales = jnp.asarray(columns.scales, jnp.float32)
    left, right = (array[..., : len(columns.scales)] * scales for array in (predicted, true))
    return jnp.sqrt(jnp.square(left[:, :, None] - right[:, None, :]).sum(-1))


def _before(confidence: Float[Array, "batch detections"]) -> Bool[Array, "batch detections others"]:
    """Whether the other detection comes first."""
    rank = jnp.argsort(jnp.argsort(-confidence, axis=1, stable=True), axis=1)
    return rank[:, None, :] < rank[:, :, None]
