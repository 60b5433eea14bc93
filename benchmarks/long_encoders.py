# SPDX-License-Identifier: Apache-2.0
"""Forward and backward pass of an encoder over one long input, to be measured in a process of its own.

The input is what an adapter gives; it needs no gradient. `TorchEncoder` wants the extra `bench`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import measure

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Encoder:
    """Passes over an input of `length` elements; a subclass makes them.

    Args:
        sizes: fields of a PerceiverEncoder, and `pooling`.
        channels: of the input.
    """

    def __init__(self, sizes: Mapping[str, Any], length: int, channels: int):
        self.input_bytes = 4 * length * channels
        self.run = self.make(dict(sizes), length, channels)

    def make(self, sizes: dict[str, Any], length: int, channels: int) -> Callable[[], None]:
        """A function that makes one pass, and waits for it."""
        raise NotImplementedError

    def burst(self, clock: str, count: int) -> float:
        """Seconds of one of `count` passes in a row, by the clock on the wall or the process' CPU time."""
        began = CLOCKS[clock]()
        for _ in range(count):
            self.run()
        return (CLOCKS[clock]() - began) / count

    def memory(self) -> dict[str, float]:
        """MB at the peak of the process, and of the input alone."""
        return {"process": measure.peak_memory(), "input": self.input_bytes / 1e6}


class JaxEncoder(Encoder):
    """Ours."""

    def make(self, sizes: dict[str, Any], length: int, channels: int) -> Callable[[], None]:
        import jax
        import jax.numpy as jnp

        from perceiver_jax.models.perceiver import PerceiverEncoder

        del sizes["pooling"]
        model = PerceiverEncoder(**sizes)
        few = jnp.zeros((1, 2, channels))
        variables = jax.jit(model.init)(jax.random.key(0), few)
        inputs = jax.jit(
            lambda: jnp.sin(jnp.arange(length * channels, dtype=jnp.float32)).reshape(1, length, channels)
        )()
        step = jax.jit(jax.grad(lambda variables, inputs: model.apply(variables, inputs).mean()))
        return lambda: jax.block_until_ready(step(variables, inputs))


class TorchEncoder(Encoder):
    """Hugging Face transformers' layers in PyTorch, eager, on the CPU."""

    def make(self, sizes: dict[str, Any], length: int, channels: int) -> Callable[[], None]:
        import os

        import torch

        from benchmarks.hf_perceiver import HfPerceiver

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        model, inputs = HfPerceiver(sizes, channels, 1), torch.randn(1, length, channels)

        def run() -> None:
            model.zero_grad(set_to_none=True)
            model(inputs).mean().backward()

        return run
