# SPDX-License-Identifier: Apache-2.0
"""One label per example: cross-entropy, accuracy, top-5 accuracy and the confusion matrix."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.figures.confusion import thumbnail
from perceiver_jax.metrics.losses import cross_entropy, in_top_k
from perceiver_jax.metrics.statistics import Mean, confusion_matrix, per_class_scores
from perceiver_jax.models.attention_maps import attention_maps
from perceiver_jax.models.decoders import PerceiverIO
from perceiver_jax.models.flops import training_flops
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import Perceiver
from perceiver_jax.tasks import mixing
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables, zeros_batch

PERCEIVERS = (Perceiver, PerceiverIO)
Target = Sequence[tuple[Array, Array | float]]
"""(labels, share) of each class that a row belongs to; the shares of a row sum to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """Classification by a model that maps `inputs` (and `mask`, where the batch has one) to logits.

    Attributes:
        input_name: the array of the batch that the model reads (`points`, `image`, `sequence`).
        num_classes: labels are in [0, num_classes).
        class_names: of all classes, where they are known.
        label_smoothing: share of the target spread over all classes, in training only.
        mixup_alpha, cutmix_alpha: of images, mixed with each other in training only (`mixing`); 0 is off. Loss and
            accuracy then count each of the two classes by its share, so that accuracy stays below 1.

    Raises:
        ConfigError: a value out of range.
    """

    rng_streams: ClassVar[tuple[str, ...]] = ("dropout", "mixing")
    input_name: str
    num_classes: int
    class_names: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def __post_init__(self):
        problems = [
            f"{name}={getattr(self, name)}: expected 0 (off) or more."
            for name in ("mixup_alpha", "cutmix_alpha")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.label_smoothing < 1:
            problems.append(f"label_smoothing={self.label_smoothing}: expected 0 (off) or more, and less than 1.")
        if problems:
            raise ConfigError(" ".join(problems))

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """`inputs` and, where lengths vary, `mask`."""
        arguments = {"inputs": batch[self.input_name]}
        return arguments | ({"mask": batch["mask"]} if "mask" in batch else {})

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """Weighted cross-entropy; in training `sums` holds the batch statistics of a model that has any."""
        changing = [name for name in variables if name != "params"] if train else []
        batch, target = self._mixed(batch, rngs) if train else (batch, [(batch["label"], 1.0)])
        logits, changed = self.model.apply(variables, **self.inputs(batch), train=train, rngs=rngs, mutable=changing)
        loss, aux = self._score(logits, target, batch["weight"], self.label_smoothing if train else 0.0)
        return loss, aux._replace(sums={"changed": changed, "parts": jnp.ones(())} if changed else {})

    def advance(self, extra: Variables, sums: dict[str, Any], rng: Array) -> Variables:
        """Batch statistics: the mean of what the micro-batches made of them."""
        return jax.tree.map(lambda total: total / sums["parts"], sums["changed"]) if sums else extra

    def _mixed(self, batch: Batch, rngs: Rngs) -> tuple[Batch, Target]:
        """The batch, its images mixed where that is on, and what is to be predicted."""
        if not (self.mixup_alpha or self.cutmix_alpha):
            return batch, [(batch["label"], 1.0)]
        images = batch[self.input_name]
        weights = mixing.own_weights(rngs["mixing"], images, self.mixup_alpha, self.cutmix_alpha)
        return batch | {self.input_name: mixing.mixed(images, weights)}, mixing.shares(batch["label"], weights)

    def _score(self, logits: Array, target: Target, weight: Array, label_smoothing: float) -> tuple[Mean, Aux]:
        def mean(score: Callable[[Array], Array]) -> Mean:
            return Mean.of(sum(share * score(labels).astype(jnp.float32) for labels, share in target), weight)

        loss = mean(lambda labels: cross_entropy(logits, labels, label_smoothing))
        accuracy = mean(lambda labels: in_top_k(logits, labels, 1))
        top5 = mean(lambda labels: in_top_k(logits, labels, min(5, self.num_classes)))
        return loss, Aux({"loss": loss, "accuracy": accuracy, "top5_accuracy": top5}, {})

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """The training statistics and the confusion matrix."""
        logits = self.model.apply(variables, **self.inputs(batch), train=False, rngs=rngs)
        stats = self._score(logits, [(batch["label"], 1.0)], batch["weight"], 0.0)[1].stats
        predicted = jnp.argmax(logits, axis=-1)
        return stats | {"confusion": confusion_matrix(batch["label"], predicted, batch["weight"], self.num_classes)}

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`logits` and `probabilities`."""
        logits = self.model.apply(variables, **self.inputs(batch), train=False, rngs=rngs)
        return {"logits": logits, "probabilities": jax.nn.softmax(logits.astype(jnp.float32))}

    def attention_maps(self) -> Callable[[Variables, Batch], dict[str, Array]] | None:
        """Of the Perceivers."""
        maps = attention_maps(self.model)

        def named(variables: Variables, batch: Batch) -> dict[str, Array]:
            logits, cross, latent, latent_stage = maps(variables, **self.inputs(batch))
            found = {"cross": cross, "latent": latent, "latent_stage": latent_stage}
            return found | {"probabilities": jax.nn.softmax(logits)}

        return None if maps is None else named

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """The confusion matrix."""
        names = self.class_names or tuple(map(str, range(self.num_classes)))
        return {"confusion": thumbnail(np.asarray(stats["confusion"]), names)}

    def flops(self, spec: Spec) -> float | None:
        """By the Perceiver's formula; None for another model."""
        if not isinstance(self.model, PERCEIVERS):
            return None
        return training_flops(self.model, spec.arrays[self.input_name].shape, *self._adapted(spec))

    def notes(self, spec: Spec) -> list[str]:
        """The attention paths, which depend on the device and the lengths; the sizes of Keras' model."""
        if isinstance(self.model, KerasPerceiver):
            return self.model.notes(spec.arrays[self.input_name].shape)
        if not isinstance(self.model, PERCEIVERS):
            return []
        encoder, (length, channels) = self.model.encoder, self._adapted(spec)
        cross, latent = encoder.attention_paths(length, channels)
        return [f"attention: {cross} over {length:,} inputs of {channels}, {latent} over {encoder.num_latents} latents"]

    def _adapted(self, spec: Spec) -> tuple[int, int]:
        """Length and channels of what the adapter gives to the encoder."""

        def adapt() -> Array:
            inputs = zeros_batch(spec)[self.input_name]
            return self.model.adapter.init_with_output(jax.random.key(0), inputs)[0]

        return jax.eval_shape(adapt).shape[1:]

    def results(self, stats: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
        """`per_class` (precision, recall, f1, support) and the confusion matrix, rows the true class."""
        confusion = np.asarray(stats["confusion"])
        return {
            "per_class": per_class_scores(confusion, class_names),
            "confusion": confusion.astype(int).tolist(),
        }
