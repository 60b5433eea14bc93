# SPDX-License-Identifier: Apache-2.0
"""Objects without labels: an image taken apart into slots and put together again (Locatello et al. 2020, section 4.1).

The loss is the mean squared error over pixels and colours of images from -1 to 1. Where the batch has the true objects,
an evaluation scores how well the slots' masks, the largest at each pixel, are these objects.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from perceiver_jax.data.spec import Spec
from perceiver_jax.figures import slot_views
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.models.fields import MOST_ROUNDS, MOST_SLOTS, check_numbers
from perceiver_jax.models.slot_autoencoder import Decomposed, centered
from perceiver_jax.tasks import segments
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables

MOST_SEEDS = 20
"""Each is compared with each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectDiscovery(Task):
    """Reconstruction by slots.

    Attributes:
        max_objects: the most an image has, the background not counted.
        num_slots, num_iterations: in evaluation, instead of the model's; None is the model's.
        num_seeds: how often an evaluation draws the first slots of each image, to compare what comes of them; 1 is
            once, without `slot_consistency`.

    Raises:
        ConfigError: any of these below 1, or more than can be.
    """

    max_objects: int = 0
    num_slots: int | None = None
    num_iterations: int | None = None
    num_seeds: int = 3
    rng_streams: ClassVar[tuple[str, ...]] = ("slots",)
    num_visualized: ClassVar[int] = 4

    def __post_init__(self):
        check_numbers("task", most=MOST_SLOTS, num_slots=self.num_slots)
        check_numbers("task", most=MOST_SEEDS, num_seeds=self.num_seeds)
        check_numbers("task", most=MOST_ROUNDS, num_iterations=self.num_iterations)

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The image."""
        return {"inputs": batch["image"]}

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """Mean squared error of every image."""
        mse = self._error(self._decompose(variables, batch, rngs, train), batch)
        return mse, Aux({"loss": mse, "mse": mse}, {})

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """The error, `slot_consistency` and, where the true objects are known, how well the masks are these objects."""
        decomposed = self._decompose(variables, batch, rngs, train=False)
        mse = self._error(decomposed, batch)
        stats = {"loss": mse, "mse": mse} | segments.mask_scores(decomposed.masks, batch, self.max_objects)
        return stats | (self._consistency(variables, batch, rngs, decomposed) if self.num_seeds > 1 else {})

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`image`, `recons`, `masks`, `slots` and `attention` of every iteration."""
        return self._decompose(variables, batch, rngs, train=False)._asdict()

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Reconstructions, masks and slots; the attention of every iteration."""
        shown, found = batch["image"], predictions
        return {
            "slots": slot_views.sheet(shown, found["image"], found["recons"], found["masks"]),
            "attention": slot_views.attention_sheet(shown, found["attention"]),
        }

    def notes(self, spec: Spec) -> list[str]:
        """Whether there are enough slots."""
        return segments.slot_notes(self._num_slots, spec, self.max_objects)

    def _decompose(self, variables: Variables, batch: Batch, rngs: Rngs, train: bool) -> Decomposed:
        chosen = {} if train else {"num_slots": self.num_slots, "num_iterations": self.num_iterations}
        return self.model.apply(variables, **self.inputs(batch), **chosen, rngs=rngs)

    def _error(self, decomposed: Decomposed, batch: Batch) -> Mean:
        squared = jnp.square(decomposed.image - centered(batch["image"]))
        return Mean.of(squared.mean((1, 2, 3)), batch["weight"])

    def _consistency(self, variables: Variables, batch: Batch, rngs: Rngs, decomposed: Decomposed) -> dict[str, Mean]:
        """Of what is there already, and of the same with the first slots drawn anew."""

        def redrawn(seed: Array) -> Array:
            keys = {name: jax.random.fold_in(key, seed) for name, key in rngs.items()}
            return segments.segments_of(self._decompose(variables, batch, keys, train=False).masks)

        others = jax.lax.map(redrawn, jnp.arange(1, self.num_seeds))
        every = jnp.concatenate([segments.segments_of(decomposed.masks)[None], others])
        told_apart = self.model.slot_attention.initializer != "shared_gaussian"
        return segments.consistency(every, batch, self.max_objects, self._num_slots, told_apart=told_apart)

    @property
    def _num_slots(self) -> int:
        return self.num_slots or self.model.slot_attention.num_slots
