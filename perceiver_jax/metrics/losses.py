# SPDX-License-Identifier: Apache-2.0
"""Losses, one number per example: weights and means belong to the task."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "batch num_classes"], labels: Int[Array, "batch"], label_smoothing: float = 0.0
) -> Float[Array, "batch"]:
    """Cross-entropy in nats, in float32.

    Args:
        label_smoothing: this share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    true = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    return -(1.0 - label_smoothing) * true - label_smoothing * jnp.mean(log_probabilities, axis=-1)


def in_top_k(logits: Float[Array, "batch num_classes"], labels: Int[Array, "batch"], k: int) -> Bool[Array, "batch"]:
    """Whether the true class is among the k highest; of equal logits the lower class counts as higher, as in argmax."""
    true = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    earlier = jnp.arange(logits.shape[-1]) < labels[:, None]
    ahead = (logits > true) | ((logits == true) & earlier)
    return (jnp.sum(ahead, axis=-1) < k) & jnp.all(jnp.isfinite(logits), axis=-1)
