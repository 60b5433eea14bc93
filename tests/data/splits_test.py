# SPDX-License-Identifier: Apache-2.0
"""A carved split takes its share of each class."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from perceiver_jax.data.splits import carved, check_fraction, stratified
from perceiver_jax.errors import ConfigError


def test_stratified_never_takes_a_whole_class():
    label = np.array([0] * 10 + [1] * 2 + [2])
    chosen = stratified(label, 0.9, 0)
    assert np.bincount(label[chosen], minlength=3).tolist() == [9, 1, 0]


@dataclasses.dataclass
class Part:
    label: np.ndarray

    def select(self, chosen):
        return Part(self.label[chosen])


def test_only_what_is_lacking_is_carved_and_what_is_empty_is_left_out():
    label = np.repeat([0, 1], 10)
    found = carved({"train": Part(label), "validation": Part(label[:4])}, {"test": 0.2, "validation": 0.5}, 0)
    assert {name: np.bincount(part.label).tolist() for name, part in found.items()} == {
        "train": [8, 8],
        "validation": [4],
        "test": [2, 2],
    }
    assert list(found) == ["train", "validation", "test"]
    assert list(carved({"train": Part(label)}, {"test": 0.2, "validation": 0.0}, 0)) == ["train", "test"]


@pytest.mark.parametrize(("value", "zero"), [(-0.1, True), (1.0, True), (float("nan"), True), (0.0, False)])
def test_what_is_no_share_is_said(value, zero):
    check_fraction(SimpleNamespace(share=0.0 if zero else 0.5), "share", zero=zero)
    with pytest.raises(ConfigError, match=f"share={value}: expected {'0 or more' if zero else 'more than 0'}, and"):
        check_fraction(SimpleNamespace(share=value), "share", zero=zero)
