# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from perceiver_jax.metrics.codes import use_of_codebooks, use_scores

COUNTS = np.array([[5.0, 5, 5, 5], [20, 0, 0, 0], [10, 10, 0, 0]])


def test_perplexity_is_the_number_of_codes_used_evenly():
    use = use_of_codebooks(COUNTS)
    np.testing.assert_allclose(use["perplexity"], [4, 1, 2])
    np.testing.assert_allclose(use["used"], [1, 0.25, 0.5])
    np.testing.assert_allclose(use["used"] + use["dead"], 1)


def test_scores_are_means_and_the_least():
    expected = {"perplexity": 7 / 3, "codes_used": 1.75 / 3, "codes_used_min": 0.25, "codes_dead": 1.25 / 3}
    assert use_scores(COUNTS) == pytest.approx(expected)


def test_nothing_counted_is_nothing_used():
    assert use_scores(np.zeros((2, 4))) == {"perplexity": 1, "codes_used": 0, "codes_used_min": 0, "codes_dead": 1}
