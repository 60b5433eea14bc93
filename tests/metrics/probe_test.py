# SPDX-License-Identifier: Apache-2.0
"""Codes that hold an attribute tell it; codes that do not are at chance; slots are matched by overlap."""

import numpy as np
import pytest

from perceiver_jax.metrics.probe import Matched, match, probe

RNG = np.random.default_rng(0)


def matched(codes):
    count = len(codes)
    return Matched(np.arange(count) // 2, np.arange(count) % 2, codes, np.ones(count))


def test_what_is_in_the_codes_is_told():
    shape, hue = RNG.integers(0, 3, 400), RNG.integers(0, 6, 400)
    codes = np.stack([(shape + 5 * hue) % 17, RNG.integers(0, 17, 400), hue], 1)
    found = probe(matched(codes), {"shape": shape, "hue": hue}, np.stack([hue / 6, RNG.random(400)], 1))
    assert found["hue_accuracy"] == 1 and found["shape_accuracy"] > found["shape_chance"] + 0.2
    assert found["hue_chance"] == pytest.approx(1 / 6, abs=0.08)
    assert 0.3 < found["position_r2"] < 0.6  # one of two axes


def test_codes_of_noise_are_at_chance_and_one_class_is_no_error():
    codes, label = RNG.integers(0, 4, (300, 2)), np.zeros(300, int)
    found = probe(matched(codes), {"noise": RNG.integers(0, 2, 300), "one": label}, RNG.random((300, 2)))
    assert abs(found["noise_accuracy"] - 0.5) < 0.13 and found["position_r2"] < 0.1
    assert found["one_accuracy"] == found["one_chance"] == 1
    assert probe(matched(codes[:2]), {"one": label[:2]}, np.zeros((2, 2))) == {}


def test_slots_are_matched_one_to_one_by_overlap():
    objects = np.array([[[0, 1, 1, 2, 2, 3]]])
    segments = np.array([[[0, 2, 2, 2, 1, 0]]])
    codes = np.array([[[7], [8], [9]]])
    found = match(codes, segments, objects, np.array([[True, True, False]]))
    assert found.number.tolist() == [0, 1] and found.codes[:, 0].tolist() == [9, 8]
    assert found.overlap.tolist() == pytest.approx([2 / 3, 1 / 2])
