# SPDX-License-Identifier: Apache-2.0
"""A carved split takes its share of each class."""

import numpy as np

from perceiver_jax.data.splits import stratified


def test_stratified_never_takes_a_whole_class():
    label = np.array([0] * 10 + [1] * 2 + [2])
    chosen = stratified(label, 0.9, 0)
    assert np.bincount(label[chosen], minlength=3).tolist() == [9, 1, 0]
