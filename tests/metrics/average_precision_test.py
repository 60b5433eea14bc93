# SPDX-License-Identifier: Apache-2.0
"""The average precision is that of a slow search, written from its definition: detection by detection, cut by cut."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.metrics.average_precision import Columns, average_precision, hits

COLUMNS = Columns((6.0, 6.0), (2, 3))
DISTANCES = (math.inf, 1.0, 0.5, 0.25, 0.125)
WIDTH = 8


def slow_hits(predicted, true, distance):
    """For one image: which detections, the surest first, find an object that none found before."""
    found, hit = set(), [False] * len(predicted)
    for k in sorted(range(len(predicted)), key=lambda k: (-predicted[k][-1], k)):
        best = (math.inf, None)
        for index, row in enumerate(true):
            same = np.argmax(row[2:4]) == np.argmax(predicted[k][2:4])
            same = same and np.argmax(row[4:7]) == np.argmax(predicted[k][4:7])
            if row[-1] == 1 and same:
                best = min(best, (math.dist(6 * row[:2], 6 * predicted[k][:2]), index))
        if best[1] is not None and (best[0] < distance or distance == math.inf) and best[1] not in found:
            hit[k] = True
            found.add(best[1])
    return hit


def slow_precision(confidence, hit, num_objects):
    """Precision and recall of all detections at least so sure, for each cut; then the area, from recall to recall."""
    points = []
    for cut in sorted(set(confidence), reverse=True):
        kept = [h for c, h in zip(confidence, hit, strict=True) if c >= cut]
        points.append((sum(kept) / num_objects, sum(kept) / len(kept)))
    area, reached = 0.0, 0.0
    for index, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[index:])
        reached = recall
    return area


def case(seed, images=12, detections=5, objects=4, levels=None):
    """Predictions near the truth, some with a wrong class; every image has padding; the last has no object."""
    rng = np.random.default_rng(seed)
    true = np.zeros((images, objects, WIDTH), np.float32)
    true[..., :2] = rng.random((images, objects, 2))
    for start, width in ((2, 2), (4, 3)):
        true[..., start : start + width] = np.eye(width)[rng.integers(0, width, (images, objects))]
    true[..., -1] = np.arange(objects) < rng.integers(1, objects, images)[:, None]
    true[-1, :, -1] = 0
    true *= true[..., -1:]
    source = np.take_along_axis(true, rng.integers(0, objects, (images, detections, 1)), 1)
    predicted = source + rng.normal(size=source.shape) * np.where(np.arange(WIDTH) < 2, 0.03, 0.3)
    confidence = rng.random((images, detections))
    predicted[..., -1] = np.floor(confidence * levels) / levels if levels else confidence
    return predicted.astype(np.float32), true


FAST = jax.jit(hits, static_argnums=(2, 3))


def area(confidence, hit, true):
    return average_precision(np.ravel(confidence), np.ravel(hit).astype(np.float64), float(true[..., -1].sum()))


@pytest.mark.parametrize(("seed", "levels"), [(0, None), (1, None), (2, 4), (3, 1)])
def test_equals_the_slow_search_with_and_without_ties(seed, levels):
    predicted, true = case(seed, levels=levels)
    found = np.asarray(FAST(predicted, true, COLUMNS, DISTANCES))
    confidence, scores = predicted[..., -1].ravel(), []
    for column, distance in enumerate(DISTANCES):
        hit = [slow_hits(*image, distance) for image in zip(predicted, true, strict=True)]
        np.testing.assert_array_equal(found[..., column], hit)
        scores.append(area(confidence, found[..., column], true))
        assert scores[-1] == pytest.approx(slow_precision(confidence, np.ravel(hit), true[..., -1].sum()), abs=1e-9)
    assert 0.01 < scores[-1] < scores[0] < 0.99  # the case is neither trivial nor hopeless


def test_the_order_of_detections_and_of_images_does_not_matter():
    predicted, true = case(4, levels=3)
    turned = np.random.default_rng(0).permutation(len(true))
    scores = []
    for rows in (np.arange(len(true)), turned):
        hit = FAST(predicted[rows], true[rows][:, ::-1], COLUMNS, DISTANCES)[..., 1]
        scores.append(area(predicted[rows, :, -1], hit, true))
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)


def test_padding_is_never_found_and_an_object_once():
    true = jnp.zeros((12, 4, WIDTH)).at[0, 0, jnp.array([2, 4, 7])].set(1.0)
    hit = np.asarray(FAST(jnp.broadcast_to(true[:1, :1], (12, 5, WIDTH)), true, COLUMNS, DISTANCES))
    assert hit[0, 0].all() and hit.sum() == len(DISTANCES)


@pytest.mark.parametrize(
    ("confidence", "hit", "num_objects", "expected"),
    [
        ([], [], 3, 0),
        ([0.9, 0.8], [1, 1], 2, 1),
        ([0.9, 0.8], [0, 1], 1, 0.5),
        ([0.9, 0.9], [1, 0], 1, 0.5),  # either may come first
        ([0.9, 0.8], [1, 0], 2, 0.5),
        ([0.9, 0.8], [0, 0], 0, math.nan),
    ],
)
def test_corners(confidence, hit, num_objects, expected):
    found = average_precision(np.array(confidence, float), np.array(hit, float), float(num_objects))
    assert found == pytest.approx(expected, nan_ok=True)
