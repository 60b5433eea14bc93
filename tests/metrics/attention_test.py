# SPDX-License-Identifier: Apache-2.0
"""Layouts, fusion, rollout by a formula in loops, statistics by theirs."""

import itertools

import numpy as np
import pytest

from perceiver_jax.metrics.attention import AXES, full_layout, fused, is_peak, map_statistics, rollout

RNG = np.random.default_rng(0)


def weights(*shape):
    raw = RNG.uniform(size=shape) ** 4
    return raw / raw.sum(-1, keepdims=True)


FULL = weights(2, 3, 4, 5, 6)  # examples, stages, heads, latents, inputs


@pytest.mark.parametrize("present", list(itertools.product([True, False], repeat=4)))
def test_any_axis_may_be_absent_and_any_order_is_put_right(present):
    kept = tuple(axis for axis, there in zip(AXES, (*present, True), strict=True) if there)
    picked = FULL[tuple(slice(None) if there else 0 for there in present)]
    expected = FULL[tuple(slice(None) if there else slice(0, 1) for there in present)]
    turned = picked.transpose(range(len(kept))[::-1])
    np.testing.assert_array_equal(full_layout(turned, kept[::-1]), expected)


def test_axes_are_guessed_by_their_number_as_attention_is_usually_laid_out():
    shapes = [full_layout(FULL[(0,) * (5 - n)]).shape for n in (1, 2, 3, 5)]
    assert shapes == [(1, 1, 1, 1, 6), (1, 1, 1, 5, 6), (1, 1, 4, 5, 6), (2, 3, 4, 5, 6)]
    assert full_layout(FULL[:, 0]).shape == (2, 1, 4, 5, 6)


@pytest.mark.parametrize("axes", [("head", "head", "input"), ("head", "input"), ("x", "latent", "input")])
def test_axes_that_cannot_be_are_refused(axes):
    with pytest.raises(ValueError, match="expected some of example, stage"):
        full_layout(FULL[0, 0], axes)


@pytest.mark.parametrize(("fusion", "join"), [("mean", np.mean), ("max", np.max), ("min", np.min)])
def test_fusion_joins_heads_and_every_map_sums_to_one(fusion, join):
    expected = join(FULL, 2).mean((1, 2))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(fused(FULL, fusion=fusion), expected)
    np.testing.assert_allclose(fused(FULL, stage=1, head=2), FULL[:, 1, 2].mean(1))


def test_rollout_is_the_formula_and_its_rows_sum_to_one():
    latent, stages = weights(2, 5, 2, 5, 5), np.array([0, 0, 1, 2, 2])
    for example in range(2):
        rolled, order = None, iter(range(5))
        for stage, count in enumerate((2, 1, 2)):
            cross = FULL[example, stage].mean(0)
            rolled = cross if rolled is None else 0.5 * rolled + 0.5 * cross
            for _ in range(count):
                mixing = 0.5 * np.eye(5) + 0.5 * latent[example, next(order)].mean(0)
                rolled = np.array(
                    [[sum(mixing[i, k] * rolled[k, j] for k in range(5)) for j in range(6)] for i in range(5)]
                )
        np.testing.assert_allclose(rollout(FULL, latent, stages)[example], rolled, rtol=1e-12)
        np.testing.assert_allclose(rolled.sum(-1), 1)
    np.testing.assert_allclose(rollout(FULL, latent, stages, fusion="max").sum(-1), 1)


def test_statistics_over_real_inputs():
    maps = np.array([[0.5, 0.25, 0.25, 0, 0, 0], [0.2, 0.2, 0.2, 0.2, 0.2, 0.0]])
    mask = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    on = np.array([[1.0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0]])
    found = map_statistics(maps, mask, on)
    np.testing.assert_allclose(found["mean"], [1 / 3, 0.2])
    np.testing.assert_allclose(found["std"], [np.std([0.5, 0.25, 0.25]), 0], atol=1e-12)
    entropy = -(0.5 * np.log(0.5) + 0.5 * np.log(0.25))
    np.testing.assert_allclose(found["entropy"], [entropy, np.log(5)])
    np.testing.assert_allclose(found["entropy_share"], [entropy / np.log(3), 1])
    np.testing.assert_allclose(found["on_object"], [0.5, 0.2])
    np.testing.assert_allclose(found["object_share"], [1 / 3, 0.2])


def test_a_peak_stands_two_deviations_above_the_mean_of_the_real_inputs():
    maps = np.full((1, 40), 0.02)
    maps[0, 7] = 0.5
    maps[0, 30:] = 0
    mask = np.arange(40)[None] < 30
    assert np.flatnonzero(is_peak(maps, mask)[0]).tolist() == [7]
    assert map_statistics(maps, mask)["peaks"] == 1
