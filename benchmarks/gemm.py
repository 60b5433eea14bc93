# SPDX-License-Identifier: Apache-2.0
"""The machine's GEMM peak, to be timed in a process of its own."""

import time

import jax
import jax.numpy as jnp

GEMM_SIZE = {"cpu": 2048}
GEMM_SIZE_ELSEWHERE = 8192


class Gemm:
    """The product of two large square matrices, in the model's type: what the machine can do at best."""

    def __init__(self, dtype: str):
        self.size = GEMM_SIZE.get(jax.default_backend(), GEMM_SIZE_ELSEWHERE)
        self.matrix = jax.random.normal(jax.random.key(0), (self.size, self.size)).astype(jnp.dtype(dtype))
        self.product = jax.jit(jnp.matmul)

    def burst(self, what: str, count: int) -> float:
        """Seconds of one of `count` products."""
        began = time.perf_counter()
        for _ in range(count):
            result = self.product(self.matrix, self.matrix)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / count

    def flops(self) -> float:
        """Of one product."""
        return 2.0 * self.size**3
