# SPDX-License-Identifier: Apache-2.0
"""Fréchet distance of two sets of images by the mean and covariance of their features (Heusel et al. 2017, FID).

Published FIDs use the features of an Inception network, whose weights are not here: pass a function that computes
them. The default features are a proxy, comparable with nothing but itself.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Images = UInt8[np.ndarray, "_ height width 3"]
"""Sets of them may differ in size."""
Features = Callable[[np.ndarray], np.ndarray]
"""Images (images, height, width, 3), uint8, -> (images, features)."""
CHANNELS = (32, 64, 128)
BATCH = 64


def image_distance(first: Images, second: Images, features: Features | None = None) -> float:
    """Of two sets of images, 0 for equal ones.

    Args:
        features: default `random_features`, a proxy.
    """
    return frechet_distance(*(np.asarray((features or random_features)(images)) for images in (first, second)))


def frechet_distance(first: Float[np.ndarray, "rows features"], second: Float[np.ndarray, "others features"]) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2)) of means and covariances, in float64.

    The trace of the root is that of the symmetric A^(1/2) B A^(1/2), whose eigenvalues are real and not negative but
    for rounding, also where there are fewer rows than features.
    """
    (mean, covariance), (other_mean, other) = (_moments(np.asarray(rows, np.float64)) for rows in (first, second))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    distance = np.sum((mean - other_mean) ** 2) + np.trace(covariance) + np.trace(other) - 2 * shared
    return float(max(distance, 0))


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))


def random_features(images: Images) -> Float[np.ndarray, "images features"]:
    """Means over places of convolutions with fixed random weights and ReLU: a proxy, without any training."""
    pad = -len(images) % BATCH  # one shape, compiled once
    padded = np.concatenate([images, np.zeros((pad, *images.shape[1:]), np.uint8)])
    rows = [_random_features(padded[start : start + BATCH]) for start in range(0, len(padded), BATCH)]
    return np.concatenate(rows)[: len(images)]


@jax.jit
def _random_features(images: UInt8[Array, "images height width 3"]) -> Float[Array, "images features"]:
    hidden, found = images / 127.5 - 1, []
    for layer, (before, after) in enumerate(zip((3, *CHANNELS), CHANNELS, strict=False)):
        shape = (3, 3, before, after)
        kernel = jax.random.normal(jax.random.key(layer), shape) * jnp.sqrt(2 / (9 * before))
        hidden = jax.lax.conv_general_dilated(
            hidden, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = jax.nn.relu(hidden)
        found.append(hidden.mean((1, 2)))
    return jnp.concatenate(found, -1)
