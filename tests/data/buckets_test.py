# SPDX-License-Identifier: Apache-2.0
"""Buckets: a padded length fits its batch, neighbours have one bucket, few lengths."""

import numpy as np

from perceiver_jax.data.buckets import Buckets, padded_lengths

LENGTHS = np.random.default_rng(0).integers(50, 201, 1000)


def test_lengths_divide_the_examples_evenly_and_end_with_the_longest():
    padded = padded_lengths(LENGTHS, 5, 200)
    assert len(padded) == 5 and padded[-1] == 200
    counts = np.histogram(LENGTHS, (0, *(length + 1 for length in padded)))[0]
    assert counts.min() > 150
    assert padded_lengths(LENGTHS, 1, 230) == (230,)
    assert padded_lengths(np.full(10, 7), 4, 7) == (7,)  # no more shapes than there are lengths


def test_a_batch_fits_and_is_padded_no_further_than_its_bucket():
    buckets = Buckets(LENGTHS, (80, 120, 200))
    assert buckets.length(np.flatnonzero(LENGTHS <= 80)[:5]) == 80
    assert buckets.length(np.append(np.flatnonzero(LENGTHS <= 80)[:5], np.flatnonzero(LENGTHS == 81)[0])) == 120
    assert buckets.length(np.array([int(LENGTHS.argmin()), -1, -1])) == 80  # -1 is nobody


def test_sorting_keeps_the_order_within_a_bucket():
    buckets = Buckets(LENGTHS, (80, 120, 200))
    ids = np.random.default_rng(1).permutation(1000)
    ordered = buckets.sort(ids)
    of = np.searchsorted(buckets.padded, LENGTHS[ordered])
    assert (np.diff(of) >= 0).all()
    for k in range(3):
        np.testing.assert_array_equal(
            ordered[of == k], [i for i in ids if np.searchsorted((80, 120, 200), LENGTHS[i]) == k]
        )
