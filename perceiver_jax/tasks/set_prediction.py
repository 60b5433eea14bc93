# SPDX-License-Identifier: Apache-2.0
"""Sets of objects, each a vector of properties, from images (Locatello et al. 2020, section 4.2).

The loss pairs slots and objects one to one, padding included, by the least sum of Huber losses; scored is the average
precision, which counts a detection that has all classes right and lies within a distance.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from scipy.optimize import linear_sum_assignment

from perceiver_jax.data.spec import Spec
from perceiver_jax.figures import object_sets, slot_views
from perceiver_jax.figures.object_sets import Objects
from perceiver_jax.metrics.assignment import matched_costs
from perceiver_jax.metrics.average_precision import Columns, average_precision, hits
from perceiver_jax.metrics.statistics import Mean, Rows
from perceiver_jax.models.fields import MOST_ROUNDS, MOST_SLOTS, check_numbers
from perceiver_jax.models.set_predictor import PredictedSet
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables

DISTANCES = (math.inf, 1.0, 0.5, 0.25, 0.125)
SURE = 0.5  # confidence of what is drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetPrediction(Task):
    """Property vectors of the objects of an image.

    Attributes:
        columns: of the vectors.
        num_slots, num_iterations: in evaluation, instead of the model's; None is the model's.

    Raises:
        ConfigError: either below 1, or more than can be.
    """

    columns: Columns
    num_slots: int | None = None
    num_iterations: int | None = None
    rng_streams: ClassVar[tuple[str, ...]] = ("slots",)
    num_visualized: ClassVar[int] = 4

    def __post_init__(self):
        check_numbers("task", most=MOST_SLOTS, num_slots=self.num_slots)
        check_numbers("task", most=MOST_ROUNDS, num_iterations=self.num_iterations)

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The image."""
        return {"inputs": batch["image"]}

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """The mean over properties of Huber's loss, summed over the best pairs of slots and objects of an image."""
        loss = self._score(self._predicted(variables, batch, rngs, train), batch)
        return loss, Aux({"loss": loss}, {})

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """The loss, and what the average precision is made of: every detection, and how many objects there are."""
        predicted, true = self._predicted(variables, batch, rngs, train=False), batch["properties"]
        hit = hits(predicted.properties, true, self.columns, DISTANCES).astype(jnp.float32)
        detections = jnp.concatenate([predicted.properties[..., -1:], hit], -1)
        objects = jnp.sum(true[..., -1].sum(1) * batch["weight"])
        detections = Rows(detections, batch["weight"])
        return {"loss": self._score(predicted, batch), "objects": objects, "detections": detections}

    def summarize(self, stats: dict[str, Any]) -> dict[str, float]:
        """`loss` and, of an evaluation, `ap_inf`, `ap_1`, `ap_0.5`, `ap_0.25` and `ap_0.125`."""
        numbers = super().summarize(stats)
        if "detections" not in stats:
            return numbers
        confidence, *hit = stats["detections"].real().reshape(-1, 1 + len(DISTANCES)).T
        scores = {
            f"ap_{distance:g}": average_precision(confidence, row, float(stats["objects"]))
            for distance, row in zip(DISTANCES, hit, strict=True)
        }
        return numbers | scores

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`properties`, `slots` and `attention` of every iteration."""
        return self._predicted(variables, batch, rngs, train=False)._asdict()

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """The predicted objects beside the true ones they are matched with; the attention of every iteration."""
        said, true = predictions["properties"], batch["properties"]
        found = self._objects(said), self._objects(true)
        return {
            "objects": object_sets.sheet(batch["image"], *found, matched(said, true)),
            "attention": slot_views.attention_sheet(batch["image"], predictions["attention"]),
        }

    def notes(self, spec: Spec) -> list[str]:
        """Whether there are enough slots."""
        num_slots, most = self.num_slots or self.model.slot_attention.num_slots, spec.arrays["properties"].shape[0]
        if num_slots >= most:
            return []
        return [
            f"WARNING: {num_slots} slots for up to {most} objects: some will not be predicted. Set "
            f"config.model.num_slots={most} or more."
        ]

    def _predicted(self, variables: Variables, batch: Batch, rngs: Rngs, train: bool) -> PredictedSet:
        chosen = {} if train else {"num_slots": self.num_slots, "num_iterations": self.num_iterations}
        return self.model.apply(variables, **self.inputs(batch), **chosen, rngs=rngs)

    def _objects(self, properties: Float[np.ndarray, "batch objects columns"]) -> Objects:
        start, classes = len(self.columns.scales), []
        for width in self.columns.classes:
            classes.append(properties[..., start : start + width].argmax(-1))
            start += width
        chosen = np.stack(classes, -1) if classes else np.zeros((*properties.shape[:2], 0), int)
        return Objects(properties[..., : len(self.columns.scales)], chosen, properties[..., -1] > SURE)

    def _score(self, predicted: PredictedSet, batch: Batch) -> Mean:
        cost = pairwise_huber(predicted.properties, batch["properties"])
        return Mean.of(matched_costs(cost).sum(1), batch["weight"])


def pairwise_huber(
    predicted: Float[Array, "batch num_slots columns"], true: Float[Array, "batch objects columns"]
) -> Float[Array, "batch num_slots others"]:
    """The mean over columns of Huber's loss (delta 1) of every slot and object; padding fills up to one for each slot.

    A slot that is left over is thereby paired with nothing, and learns to say so.
    """
    missing = max(predicted.shape[1] - true.shape[1], 0)
    true = jnp.pad(true, ((0, 0), (0, missing), (0, 0)))
    return optax.losses.huber_loss(predicted[:, :, None], true[:, None], delta=1.0).mean(-1)


def matched(
    predicted: Float[np.ndarray, "batch num_slots columns"], true: Float[np.ndarray, "batch objects columns"]
) -> Int[np.ndarray, "batch num_slots"]:
    """The object that the loss pairs each slot with, -1 for none; on the host.

    Nothing differs by more than 1, where Huber's loss is half the square.
    """
    pairs = np.full(predicted.shape[:2], -1)
    for k, (said, real) in enumerate(zip(predicted, true, strict=True)):
        slots, objects = linear_sum_assignment(np.square(said[:, None] - np.pad(real, _filled(said, real))).mean(-1))
        pairs[k, slots] = np.where(objects < len(real), objects, -1)
    return pairs


def _filled(said: np.ndarray, real: np.ndarray) -> list[tuple[int, int]]:
    """Padding up to one object for each slot."""
    return [(0, max(len(said) - len(real), 0)), (0, 0)]
