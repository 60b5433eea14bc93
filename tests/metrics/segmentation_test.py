# SPDX-License-Identifier: Apache-2.0
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from perceiver_jax.metrics.segmentation import (
    adjusted_rand_index,
    grouping_consistency,
    index_consistency,
    mean_best_overlap,
    mean_matched_overlap,
    overlaps,
    segmentation_covering,
    shared_pixels,
)

CORNERS = {
    "one part both": ([0] * 6, [0] * 6),
    "all apart both": (list(range(6)), list(range(6))),
    "one part and all apart": ([0] * 6, list(range(6))),
    "all apart and one part": (list(range(6)), [0] * 6),
    "renamed": ([0, 0, 1, 1, 2, 2], [3, 3, 0, 0, 1, 1]),
    "worse than chance": ([0, 0, 1, 1], [0, 1, 0, 1]),
    "two pixels": ([0, 1], [0, 0]),
}


def ari(true, predicted):
    true, predicted = (jnp.asarray(x, jnp.int32)[None] for x in (true, predicted))
    return float(jax.jit(adjusted_rand_index)(shared_pixels(true, predicted, 8, 8))[0])


@pytest.mark.parametrize("name", CORNERS)
def test_ari_in_the_corners_is_scikit_learns(name):
    true, predicted = CORNERS[name]
    assert ari(true, predicted) == pytest.approx(adjusted_rand_score(true, predicted), abs=1e-6)


def test_ari_of_random_images_is_scikit_learns():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 5, (20, 4096))
    copied = rng.random((20, 4096)) < rng.random((20, 1))
    predicted = np.where(copied, (true + 2) % 7, rng.integers(0, 7, true.shape))
    shared = shared_pixels(jnp.asarray(true), jnp.asarray(predicted), 5, 7)
    expected = [adjusted_rand_score(a, b) for a, b in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(adjusted_rand_index(shared), expected, atol=1e-5)
    foreground = [adjusted_rand_score(a[a > 0], b[a > 0]) for a, b in zip(true, predicted, strict=True)]
    np.testing.assert_allclose(adjusted_rand_index(shared[:, 1:]), foreground, atol=1e-5)


def test_large_images_keep_their_precision():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 11, 240 * 320)
    predicted = np.where(rng.random(true.shape) < 0.9, true, 0)
    shared = shared_pixels(jnp.asarray(true)[None], jnp.asarray(predicted)[None], 11, 11)
    assert float(adjusted_rand_index(shared)[0]) == pytest.approx(adjusted_rand_score(true, predicted), abs=1e-5)


@pytest.mark.parametrize(("side", "object_pixels"), [(128, 1), (128, 5), (320, 5)])
def test_a_small_object_counts_as_in_scikit_learn(side, object_pixels):
    """Before much background, of which one more pixel is taken for the object."""
    true = np.zeros(side**2, np.int32)
    true[:object_pixels] = 1
    predicted = np.roll(true, object_pixels // 2)
    predicted[-1] = 1
    assert ari(true, predicted) == pytest.approx(adjusted_rand_score(true, predicted), abs=1e-5)


def test_overlaps_of_masks():
    rng = np.random.default_rng(2)
    true, predicted = rng.integers(0, 4, (3, 50)), rng.integers(0, 5, (3, 50))
    overlap = overlaps(shared_pixels(jnp.asarray(true), jnp.asarray(predicted), 4, 5))
    for b, t, p in itertools.product(range(3), range(4), range(5)):
        a, c = true[b] == t, predicted[b] == p
        assert float(overlap[b, t, p]) == pytest.approx((a & c).sum() / max((a | c).sum(), 1))


def test_matched_and_best_overlaps_are_those_of_a_search_through_all_matchings():
    overlap = np.random.default_rng(3).random((6, 3, 4)).astype(np.float32)
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)
    matched = jax.jit(mean_matched_overlap)(jnp.asarray(overlap), jnp.asarray(present))
    best = mean_best_overlap(jnp.asarray(overlap), jnp.asarray(present))
    for b in range(6):
        rows = np.flatnonzero(present[b])
        if not len(rows):
            assert matched[b] == best[b] == 0
            continue
        sums = [overlap[b, rows, list(order)].mean() for order in itertools.permutations(range(4), len(rows))]
        assert float(matched[b]) == pytest.approx(max(sums), abs=1e-6)
        assert float(best[b]) == pytest.approx(overlap[b, rows].max(1).mean(), abs=1e-6)


def test_covering_counts_objects_by_their_pixels():
    overlap = np.random.default_rng(4).random((3, 3, 4)).astype(np.float32)
    size = np.float32([[8, 1, 3], [0, 5, 0], [0, 0, 0]])
    expected = [np.average(overlap[0].max(1), weights=size[0]), overlap[1, 1].max(), 0]
    found = segmentation_covering(jnp.asarray(overlap), jnp.asarray(size))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_consistency_is_the_mean_over_all_pairs_of_seeds():
    """Grouping by scikit-learn; an object's slot is the one with most of its pixels."""
    rng = np.random.default_rng(5)
    true = rng.integers(0, 4, (2, 60))
    segments = np.where(rng.random((3, 2, 60)) < 0.8, true + np.arange(3)[:, None, None] % 2, rng.integers(0, 5))
    pairs, images = list(itertools.combinations(range(3), 2)), range(2)
    found = grouping_consistency(jnp.asarray(segments), jnp.asarray(true > 0), 5)
    on = [true[b] > 0 for b in images]
    expected = [
        np.mean([adjusted_rand_score(segments[i, b][on[b]], segments[j, b][on[b]]) for i, j in pairs]) for b in images
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    shared = jnp.stack([shared_pixels(jnp.asarray(true), jnp.asarray(part), 4, 5) for part in segments])[:, :, 1:]
    slots = [[[np.bincount(part[b][true[b] == k]).argmax() for k in (1, 2, 3)] for b in images] for part in segments]
    expected = [np.mean([np.equal(slots[i][b], slots[j][b]) for i, j in pairs]) for b in images]
    present = jnp.ones((2, 3), bool)
    np.testing.assert_allclose(index_consistency(shared, present), expected, atol=1e-6)
    assert 0 < min(expected) < 1
    fewer = jnp.asarray([[True, False, False]] * 2)
    expected = [np.mean([slots[i][b][0] == slots[j][b][0] for i, j in pairs]) for b in images]
    np.testing.assert_allclose(index_consistency(shared, fewer), expected, atol=1e-6)
