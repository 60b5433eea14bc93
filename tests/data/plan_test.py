# SPDX-License-Identifier: Apache-2.0
"""Plans: whole epochs, reshuffled, at most once an epoch in training and exactly once in evaluation."""

import numpy as np
import pytest

from perceiver_jax.data.buckets import Buckets
from perceiver_jax.data.plan import Plan, evaluation_plan
from perceiver_jax.errors import ConfigError


def test_an_epoch_holds_each_example_at_most_once():
    plan = Plan(num_examples=103, batch_size=10, seed=0)
    assert plan.steps_per_epoch == 10
    for epoch in range(3):
        ids = np.concatenate([plan.ids(epoch * 10 + i) for i in range(10)])
        assert len(set(ids.tolist())) == 100 and ids.min() >= 0 and ids.max() < 103


def test_epochs_differ_and_all_examples_come_in_time():
    plan = Plan(num_examples=103, batch_size=10, seed=0)
    epochs = [np.concatenate([plan.ids(epoch * 10 + i) for i in range(10)]) for epoch in range(5)]
    assert not np.array_equal(epochs[0], epochs[1])
    assert set(np.concatenate(epochs).tolist()) == set(range(103))  # who sits out changes


def test_epoch_numbers():
    plan = Plan(num_examples=25, batch_size=10)
    assert [plan.epoch(i) for i in range(5)] == [0, 0, 1, 1, 2]


def test_a_batch_follows_from_seed_and_index_alone():
    forwards = [Plan(50, 10, seed=3).ids(i) for i in range(20)]
    backwards = [Plan(50, 10, seed=3).ids(i) for i in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert not np.array_equal(Plan(50, 10, seed=4).ids(0), forwards[0])


def test_without_shuffle_in_order():
    plan = Plan(25, 10, shuffle=False)
    assert plan.ids(1).tolist() == list(range(10, 20)) and plan.ids(2).tolist() == list(range(10))


def test_too_large_a_batch_says_what_to_use():
    with pytest.raises(ConfigError, match=r"batch_size=64 .* 30 examples .* batch_size=30 or less"):
        Plan(30, 64)
    with pytest.raises(ConfigError, match="at least 1"):
        Plan(30, 0)


@pytest.mark.parametrize("num_examples, batch_size, num_batches", [(20, 10, 2), (23, 10, 3), (3, 10, 1)])
def test_evaluation_counts_everyone_once(num_examples, batch_size, num_batches):
    plan = evaluation_plan(num_examples, batch_size)
    assert plan.num_batches == num_batches
    ids = np.concatenate([plan.ids(i) for i in range(num_batches)])
    assert ids[:num_examples].tolist() == list(range(num_examples))
    assert (ids[num_examples:] == -1).all() and len(ids) == num_batches * batch_size


def test_a_part_of_the_evaluation_is_always_the_same_and_not_the_first():
    plan = evaluation_plan(100, 10, 25)
    assert plan.num_batches == 3 and len(set(plan.chosen.tolist())) == 25
    np.testing.assert_array_equal(plan.chosen, evaluation_plan(100, 10, 25).chosen)
    assert plan.chosen.max() > 50
    assert len(evaluation_plan(100, 10, 1000).chosen) == 100


LENGTHS = np.random.default_rng(0).integers(50, 201, 103)
PADDED = (90, 140, 200)


def bucketed(seed=0):
    return Plan(num_examples=103, batch_size=10, seed=seed, buckets=Buckets(LENGTHS, PADDED))


def test_buckets_keep_whole_epochs_and_change_who_shares_a_batch():
    plan = bucketed()
    epochs = [np.concatenate([plan.ids(epoch * 10 + i) for i in range(10)]) for epoch in range(5)]
    assert all(len(set(ids.tolist())) == 100 for ids in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(103))
    partners = [{frozenset(plan.ids(epoch * 10 + i).tolist()) for i in range(10)} for epoch in range(5)]
    assert not set.intersection(*partners)


def test_buckets_are_a_function_of_seed_and_index_alone():
    forwards = [bucketed(3).ids(i) for i in range(20)]
    backwards = [bucketed(3).ids(i) for i in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert not np.array_equal(bucketed(4).ids(0), forwards[0])


def test_buckets_pad_less_and_short_batches_come_at_any_time():
    plan = bucketed()
    lengths = [plan.length(i) for i in range(20)]
    assert set(lengths) == set(PADDED) and lengths[:10] != sorted(lengths[:10])
    assert all(LENGTHS[plan.ids(i)].max() <= length for i, length in enumerate(lengths))
    assert np.mean(lengths) < 0.85 * 200
    assert Plan(103, 10).length(0) is None


def test_evaluation_in_buckets_counts_everyone_once():
    plan = evaluation_plan(103, 10, buckets=Buckets(LENGTHS, PADDED))
    ids = np.concatenate([plan.ids(i) for i in range(plan.num_batches)])
    assert sorted(ids[ids >= 0].tolist()) == list(range(103)) and (ids < 0).sum() == 7
    lengths = [plan.length(i) for i in range(plan.num_batches)]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1] == 200
