# SPDX-License-Identifier: Apache-2.0
"""Convolutions by products, their transposes and all gradients equal `jax.lax`'s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.convolutions import LAYOUT, convolve, convolve_transposed, spread_vectors

CASES = [  # taps, stride, (height, width), dtype
    (5, 1, (7, 6), "float32"),
    (5, 2, (7, 6), "float32"),
    (4, 3, (5, 8), "float32"),
    (3, 1, (3, 1), "bfloat16"),
]


def xla(images, kernel, stride):
    return jax.lax.conv_general_dilated(images, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT)


def xla_transposed(images, kernel, stride):
    strides = (stride, stride)
    return jax.lax.conv_transpose(images, kernel, strides, "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)


def both(ours, theirs, images, kernel, stride):
    """Value and gradients of each, for the same random gradient of the output."""
    outputs = []
    for function in (ours, theirs):
        output, pull = jax.vjp(lambda x, k, f=function: f(x, k, stride), images, kernel)
        outputs.append((output, *pull(jnp.sin(jnp.arange(output.size, dtype=output.dtype)).reshape(output.shape))))
    return outputs


@pytest.mark.parametrize(("taps", "stride", "shape", "dtype"), CASES)
def test_equal_to_xla(taps, stride, shape, dtype):
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(3, *shape, 2)), dtype)
    kernel = jnp.asarray(random.normal(size=(taps, taps, 2, 4)), dtype)
    vectors = images[:, 0, 0]

    @jax.jit
    def compute(images, kernel):
        grid = jnp.broadcast_to(vectors[:, None, None], images.shape)
        turned = kernel.swapaxes(2, 3)
        spread = spread_vectors(vectors, turned, stride, shape), xla_transposed(grid, turned, stride)
        plain = both(convolve, xla, images, kernel, stride)
        return plain, both(convolve_transposed, xla_transposed, images, turned, stride), spread

    tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    for ours, theirs in compute(images, kernel):
        for mine, its in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert mine.shape == its.shape and mine.dtype == its.dtype == dtype
            mine, its = np.asarray(mine, np.float32), np.asarray(its, np.float32)
            np.testing.assert_allclose(mine, its, rtol=0, atol=tolerance * np.abs(its).max())
