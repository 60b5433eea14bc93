# SPDX-License-Identifier: Apache-2.0
"""What a task is: the only thing the train step, the evaluation and the verbs know about what is being learned.

A task names the model's arguments in a batch, a loss whose total is differentiated, and statistics that add up. A new
capability is a new task; the train step does not change.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, PRNGKeyArray

from perceiver_jax.data.spec import Spec
from perceiver_jax.metrics.statistics import Mean

Batch = dict[str, Array]
Variables = dict[str, Any]
Rngs = dict[str, PRNGKeyArray]


class Aux(NamedTuple):
    """What a loss gives beside itself.

    Attributes:
        stats: additive over batches (`Mean`, confusion matrices, counts): logged and summarised.
        sums: additive over micro-batches: what `Task.advance` needs; empty for most tasks.
    """

    stats: dict[str, Any]
    sums: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A model and what to do with it. Required: `inputs`, `loss`, `predict`; the rest has defaults."""

    model: nn.Module
    rng_streams: ClassVar[tuple[str, ...]] = ("dropout",)
    num_visualized: ClassVar[int] = 0
    """Examples whose predictions `visualize` wants."""

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The model's arguments in a batch."""
        raise NotImplementedError

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """The loss, whose `total` is differentiated and divided once by the summed `weight`; pure."""
        raise NotImplementedError

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """One row per example."""
        raise NotImplementedError

    def init(self, rng: PRNGKeyArray, spec: Spec) -> Variables:
        """The model's variables, from the shapes of the data alone."""
        return self.model.init(rng, **self.inputs(zeros_batch(spec)))

    def advance(self, extra: Variables, sums: dict[str, Any], rng: PRNGKeyArray) -> Variables:
        """The next value of everything that is neither parameter nor optimizer state (codebooks, batch statistics)."""
        return extra

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """Statistics of one evaluation batch."""
        return self.loss(variables, batch, rngs, train=False)[1].stats

    def summarize(self, stats: dict[str, Any]) -> dict[str, float]:
        """The numbers to log: total / weight of every `Mean`."""
        return {name: value.value() for name, value in stats.items() if isinstance(value, Mean)}

    def results(self, stats: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
        """What an evaluation reports beyond `summarize`, JSON-able."""
        return {}

    def flops(self, spec: Spec) -> float | None:
        """FLOPs of a training step for one example, by formula; None where there is no formula."""
        return None

    def notes(self, spec: Spec) -> list[str]:
        """What a person should know of the model before it trains, a line each: the paths taken, the sizes."""
        return []

    def attention_maps(self) -> Callable[[Variables, Batch], dict[str, Array]] | None:
        """A function (variables, batch) -> maps of every example, compiled by itself; None where nothing attends.

        It gives `cross` (examples, stages, heads, latents, inputs), `latent` (examples, layers, heads, latents,
        latents), `latent_stage` (layers,) and `probabilities` (examples, classes).
        """
        return None

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """name -> picture, uint8 (height, width, 3), of an evaluation; drawn each time, so in milliseconds.

        Args:
            predictions, batch: of `num_visualized` examples, always the same; fewer where the split has fewer.
            stats: summed over the split.
        """
        return {}


def zeros_batch(spec: Spec, batch_size: int = 1) -> Batch:
    """A batch of zeros of the spec's shapes, with the `weight` and `id` that every batch has."""
    batch = {name: jnp.zeros((batch_size, *array.shape), array.dtype) for name, array in spec.arrays.items()}
    return batch | {"weight": jnp.ones(batch_size, jnp.float32), "id": jnp.zeros(batch_size, jnp.int32)}
