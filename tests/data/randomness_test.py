# SPDX-License-Identifier: Apache-2.0
"""Counter-based numbers: pure, uniform, normal, and independent between seeds, streams, epochs, examples and
counters.
"""

import numpy as np
import pytest

from perceiver_jax.data import randomness

IDS = np.arange(200)


def test_known_bits():
    """SplitMix64 from state 0, as published with the reference code (Vigna 2015)."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert randomness.bits(np.zeros(1, np.uint64), 3)[0].tolist() == published


def test_a_row_does_not_depend_on_its_batch():
    key = randomness.keys(7, "jitter", IDS, 3)
    for draw in (randomness.uniform, randomness.normal):
        whole = draw(key, (33, 3))
        for rows in ([5], [5, 6], [199, 0, 77]):
            np.testing.assert_array_equal(draw(randomness.keys(7, "jitter", IDS[rows], 3), (33, 3)), whole[rows])


def test_blocks_do_not_show():
    key = randomness.keys(0, "s", np.arange(50))
    longer = randomness.uniform(key, (randomness.BLOCK + 10,))
    np.testing.assert_array_equal(randomness.uniform(key, (1000,)), longer[:, :1000])


@pytest.mark.parametrize(
    "other",
    [
        randomness.keys(1, "s", IDS, 0),
        randomness.keys(0, "t", IDS, 0),
        randomness.keys(0, "s", IDS, 1),
        randomness.keys(0, "s", IDS + 200, 0),
        randomness.keys(0, "s", IDS, -1),
    ],
)
def test_streams_are_independent(other):
    ours = randomness.uniform(randomness.keys(0, "s", IDS, 0), (50,))
    theirs = randomness.uniform(other, (50,))
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.04  # 4 standard errors of 10,000 numbers
    assert not np.isin(ours, theirs).mean() > 0.01


def test_seed_and_counter_do_not_commute():
    assert not np.array_equal(randomness.keys(1, "s", IDS, 2), randomness.keys(2, "s", IDS, 1))


def test_neighbours_are_independent():
    numbers = randomness.uniform(randomness.keys(0, "s", IDS), (200,))
    for a, b in (
        (numbers[:-1], numbers[1:]),
        (numbers[:, :-1], numbers[:, 1:]),
        (numbers[:, :-2], numbers[:, 2:]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_uniform():
    numbers = randomness.uniform(randomness.keys(0, "s", np.arange(1000)), (200,), -1.0, 3.0)
    assert numbers.dtype == np.float32 and numbers.shape == (1000, 200)
    assert numbers.min() >= -1 and numbers.max() < 3
    counts = np.histogram(numbers, 100, (-1, 3))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 160  # chi-squared, 99 degrees of freedom: below 0.01 %


def test_normal():
    numbers = randomness.normal(randomness.keys(0, "s", np.arange(1000)), (67, 3))
    assert numbers.shape == (1000, 67, 3) and numbers.dtype == np.float32
    assert abs(numbers.mean()) < 0.01 and abs(numbers.std() - 1) < 0.01
    assert abs((numbers**4).mean() - 3) < 0.1
    assert abs((np.abs(numbers) < 1).mean() - 0.6827) < 0.005


def test_scalars_and_empty_batches():
    assert randomness.uniform(randomness.keys(0, "s", IDS), ()).shape == (200,)
    assert randomness.normal(randomness.keys(0, "s", IDS[:0]), (5, 3)).shape == (0, 5, 3)


def test_permutation():
    order = randomness.permutation(1000, 0, "order", 4)
    assert sorted(order.tolist()) == list(range(1000))
    assert not np.array_equal(order, randomness.permutation(1000, 0, "order", 5))
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.13
