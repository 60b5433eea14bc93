# SPDX-License-Identifier: Apache-2.0
"""What is encoded is decoded."""

import numpy as np

from perceiver_jax.data.properties import Property, decoded, encoded

PROPERTIES = (Property("x", scale=6.0), Property("shape", 3), Property("y"), Property("size", 2))


def test_values_come_back_and_padding_has_no_confidence():
    values = [np.array([0.25, 0.5]), np.array([2, 1]), np.array([0.125, 0.75]), np.array([0, 1])]
    found = decoded(PROPERTIES, encoded(PROPERTIES, values, np.array([1, 1])))
    for name, value in zip(("x", "shape", "y", "size"), values, strict=True):
        np.testing.assert_array_equal(found[name], value)
    assert decoded(PROPERTIES, encoded(PROPERTIES, values, np.array([1, 0])))["confidence"].tolist() == [1, 0]
