# SPDX-License-Identifier: Apache-2.0
"""Statistics add up to what scikit-learn and NumPy say of the whole."""

import jax.numpy as jnp
import numpy as np
from sklearn import metrics as sklearn_metrics

from perceiver_jax.metrics import statistics
from perceiver_jax.metrics.statistics import Mean, Rows, confusion_matrix, per_class_scores


def test_mean_over_uneven_batches_is_the_mean_of_all_rows():
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=50).astype(np.float32), rng.uniform(0, 2, 50).astype(np.float32)
    total = None
    for rows in (slice(0, 7), slice(7, 40), slice(40, 50)):
        total = statistics.add(total, {"m": Mean.of(jnp.asarray(values[rows]), jnp.asarray(weight[rows]))})
    np.testing.assert_allclose(total["m"].value(), np.average(values, weights=weight), rtol=1e-6)


def test_padding_counts_nothing_even_when_it_is_not_finite():
    mean = Mean.of(jnp.asarray([1.0, jnp.nan, jnp.inf, 3.0]), jnp.asarray([1.0, 0.0, 0.0, 1.0]))
    assert mean.value() == 2.0


def test_nothing_counted_is_nan():
    assert np.isnan(Mean(0.0, 0.0).value())


def test_sums_are_float64():
    total = {"m": Mean(np.float64(2**24), np.float64(2**24))}
    total = statistics.add(total, {"m": Mean(np.float32(1), np.float32(1))})
    assert total["m"].weight == 2**24 + 1


def test_rows_are_kept_behind_each_other_without_padding():
    total = None
    for values, weight in (([1.0, 2.0], [1.0, 0.0]), ([3.0, 4.0], [1.0, 1.0])):
        total = statistics.add(total, {"rows": Rows(jnp.asarray(values), jnp.asarray(weight)), "count": jnp.ones(())})
    assert total["rows"].real().tolist() == [1, 3, 4] and total["count"] == 2


def test_confusion_and_per_class_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 3, 200)  # class 3 is never predicted
    weight = np.ones(200, np.float32)
    weight[150:] = 0
    confusion = np.asarray(confusion_matrix(jnp.asarray(labels), jnp.asarray(predicted), jnp.asarray(weight), 5))
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(labels[:150], predicted[:150], labels=range(5))
    )
    scores = per_class_scores(confusion.astype(np.float64), ("a", "b", "c", "d", "e"))
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels[:150], predicted[:150], labels=range(5), zero_division=0
    )
    got = [[row[key] for row in scores.values()] for key in ("precision", "recall", "f1", "support")]
    np.testing.assert_allclose(got, expected)
