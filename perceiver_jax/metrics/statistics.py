# SPDX-License-Identifier: Apache-2.0
"""Statistics that add up over batches, devices and micro-batches: a mean is taken once, at the very end.

Under `jit` a statistic of a sharded batch is already the global one. Batches are added on the host in float64 (a
float32 count stops growing at 16.7 million).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Mean(NamedTuple):
    """A weighted mean that has not been divided yet: the only kind of average there is."""

    total: Array | np.ndarray | float
    weight: Array | np.ndarray | float

    @classmethod
    def of(cls, values: Float[Array, "batch"], weight: Float[Array, "batch"]) -> "Mean":
        """The mean of one value per example; examples of weight 0 are padding, whatever their value."""
        values = jnp.where(weight > 0, values.astype(jnp.float32), 0.0)
        return cls(jnp.sum(values * weight), jnp.sum(weight))

    def value(self) -> float:
        """total / weight; NaN when nothing was counted."""
        return float(self.total) / float(self.weight) if float(self.weight) else float("nan")


class Rows(NamedTuple):
    """What scores that no sum gives (a ranking of all examples) need of every one; adding puts rows behind rows.

    Attributes:
        values: a row for each example.
        weight: 0 is padding.
    """

    values: Array | np.ndarray
    weight: Array | np.ndarray

    def real(self) -> np.ndarray:
        """The rows that are no padding."""
        return np.asarray(self.values)[np.asarray(self.weight) > 0]


def confusion_matrix(
    labels: Int[Array, "batch"],
    predictions: Int[Array, "batch"],
    weight: Float[Array, "batch"],
    num_classes: int,
) -> Float[Array, "num_classes num_classes"]:
    """Weighted counts, rows the true class and columns the predicted one."""
    true = jax.nn.one_hot(labels, num_classes) * weight[:, None]
    return jnp.einsum("bt,bp->tp", true, jax.nn.one_hot(predictions, num_classes))


def add(left, right):
    """The sum of two trees of statistics on the host, in float64; `None` is the empty sum."""
    right = jax.tree.map(lambda x: np.asarray(x, np.float64), right)
    return right if left is None else jax.tree.map(_sum, left, right, is_leaf=lambda x: isinstance(x, Rows))


def _sum(left, right):
    return Rows(*map(np.concatenate, zip(left, right, strict=True))) if isinstance(left, Rows) else np.add(left, right)


def per_class_scores(confusion: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """name -> precision, recall, f1, support. A score without a single case is 0, as in scikit-learn's default."""
    hits, predicted, support = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(hits), where=both > 0)
    return {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(class_names, precision, recall, f1, support, strict=True)
    }
