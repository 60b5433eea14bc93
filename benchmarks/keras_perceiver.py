# SPDX-License-Identifier: Apache-2.0
"""Keras' example "Image classification with Perceiver" from Keras 3 layers: `--peer=keras`.

Source: https://keras.io/examples/vision/perceiver_image_classification (Salama 2021), on Keras' JAX backend. With the
weights of `tests/golden/keras_cifar100.npz` its logits are the stored ones to 6e-7 of the largest. Images come in the
size that the model wants, as ours do; a step is what `fit` compiles: forward, loss, backward, Adam, the example's
metrics. Imported only when asked for.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import keras
from keras import layers, ops

from benchmarks import measure
from benchmarks.inputs import RandomArrays
from perceiver_jax.errors import ConfigError


def feed_forward(units: Sequence[int], dropout_rate: float) -> keras.Sequential:
    """The example's `create_ffn`."""
    hidden = [layers.Dense(width, activation=keras.activations.gelu) for width in units[:-1]]
    return keras.Sequential([*hidden, layers.Dense(units[-1]), layers.Dropout(dropout_rate)])


def norm() -> layers.LayerNormalization:
    """Its layer norm."""
    return layers.LayerNormalization(epsilon=1e-6)


def cross_attention(sizes: Mapping[str, Any], num_patches: int) -> keras.Model:
    """Its `create_cross_attention_module`."""
    dim = sizes["latent_dim"]
    latents, data = layers.Input((sizes["num_latents"], dim)), layers.Input((num_patches, dim))
    normed, normed_data = norm()(latents), norm()(data)
    query, key, value = layers.Dense(dim)(normed), layers.Dense(dim)(normed_data), layers.Dense(dim)(normed_data)
    attention = layers.Attention(use_scale=True, dropout=sizes["attention_dropout_rate"])
    attended = norm()(layers.Add()([attention([query, key, value]), normed]))
    outputs = feed_forward(sizes["ffn_units"], sizes["dropout_rate"])(attended)
    return keras.Model([latents, data], layers.Add()([outputs, attended]))


def transformer(sizes: Mapping[str, Any]) -> keras.Model:
    """Its `create_transformer_module`."""
    dim = sizes["latent_dim"]
    x = inputs = layers.Input((sizes["num_latents"], dim))
    for _ in range(sizes["num_blocks"]):
        normed = norm()(x)
        attention = layers.MultiHeadAttention(sizes["num_heads"], dim, dropout=sizes["attention_dropout_rate"])
        x = layers.Add()([attention(normed, normed), x])
        x = layers.Add()([feed_forward(sizes["ffn_units"], sizes["dropout_rate"])(norm()(x)), x])
    return keras.Model(inputs, x)


class KerasPerceiver(keras.Model):
    """Images to logits.

    Args:
        sizes: the config's model section.
        mean, std: of each channel.
    """

    def __init__(self, sizes: Mapping[str, Any], num_classes: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.sizes, self.patch_size = sizes, sizes["adapter"]["patch_size"]
        self.num_patches = sizes["adapter"]["positions"]["length"]
        self.normalize = layers.Normalization(mean=mean, variance=[value**2 for value in std])
        self.project = layers.Dense(sizes["latent_dim"])
        self.positions = layers.Embedding(self.num_patches, sizes["latent_dim"])
        self.cross = cross_attention(sizes, self.num_patches)
        self.transformer = transformer(sizes)
        self.pool = layers.GlobalAveragePooling1D()
        self.classifier = feed_forward((*sizes["classifier_units"], num_classes), sizes["dropout_rate"])

    def build(self, shape: Sequence[int | None]) -> None:
        """The latents and the layers that Keras builds at their first use."""
        shape_of = (self.sizes["num_latents"], self.sizes["latent_dim"])
        self.latents = self.add_weight(shape=shape_of, initializer="random_normal", name="latents")
        self.normalize.build(shape)
        self.project.build((None, self.num_patches, self.patch_size**2 * shape[-1]))
        self.positions.build((None,))
        self.classifier.build((None, self.sizes["latent_dim"]))
        super().build(shape)

    def call(self, images: Any, training: bool = False) -> Any:
        """Its `call`, images already augmented."""
        side = (self.patch_size, self.patch_size)
        patches = ops.image.extract_patches(self.normalize(images), size=side, strides=side, padding="valid")
        patches = ops.reshape(patches, (ops.shape(images)[0], -1, patches.shape[-1]))
        data = self.project(patches) + self.positions(ops.arange(self.num_patches))
        latents = ops.expand_dims(self.latents, 0)
        for _ in range(self.sizes["num_iterations"]):
            latents = self.transformer(self.cross([latents, data], training=training), training=training)
        return self.classifier(self.pool(latents), training=training)


class KerasSteps:
    """Training step and forward pass as Keras' JAX trainer compiles them.

    Args:
        config: resolved, on random arrays.
    """

    def __init__(self, config: Mapping[str, Any]):
        if keras.backend.backend() != "jax":
            raise ConfigError(f"Keras runs on {keras.backend.backend()}: expected KERAS_BACKEND=jax.")
        jax.config.update("jax_enable_compilation_cache", False)  # compile times are cold ones
        source = RandomArrays(like=config["data"]["like"])
        spec, batch = source.spec, source.batch(config["batch_size"])
        self.images, self.labels = jax.device_put((batch["image"].astype("float32"), batch["label"]))
        keras.utils.set_random_seed(0)
        self.model = KerasPerceiver(config["model"], len(spec.class_names), spec.mean, spec.std)
        metrics = [
            keras.metrics.SparseCategoricalAccuracy(name="acc"),
            keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5-acc"),
        ]
        self.model.compile(
            keras.optimizers.Adam(config["optimizer"]["learning_rate"]),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=metrics,
        )
        self._build(self.images[:1], self.labels[:1])
        self.jitted_step = jax.jit(self.model.train_step, donate_argnums=0)
        self.jitted_forward = jax.jit(self._predict)

    def _build(self, images: Any, labels: Any) -> None:
        """Everything that Keras builds at the first use."""
        logits = self.model(images)
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.compute_loss(images, labels, logits)
        self.model.compute_metrics(images, labels, logits)
        self.model.reset_metrics()

    def _predict(self, state: Sequence, images: Any) -> Any:
        return ops.softmax(self.model.stateless_call(*state[:2], images, training=False)[0])

    def _variables(self) -> tuple[list, ...]:
        """The state in the order of `train_step`."""
        model = self.model
        of_step = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
        return tuple([variable.value for variable in part] for part in (*of_step, model.metrics_variables))

    def describe(self) -> dict[str, Any]:
        """Number of parameters, device, versions."""
        device = jax.devices()[0]
        return {
            "parameters": sum(variable.value.size for variable in self.model.trainable_variables),
            "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
            "versions": measure.versions("keras", "jax", "jaxlib"),
        }

    def compile(self) -> dict[str, float]:
        """Seconds from the traced functions to the executables."""
        self.state, taken = self._variables(), {}
        for name, function, data in (
            ("step", self.jitted_step, (self.images, self.labels)),
            ("forward", self.jitted_forward, self.images),
        ):
            began = time.perf_counter()
            setattr(self, name, function.lower(self.state, data).compile())
            taken[name] = time.perf_counter() - began
        return taken

    def burst(self, what: str, count: int) -> float:
        """Seconds of one of `count` steps or forward passes in a row."""
        began = time.perf_counter()
        for _ in range(count):
            if what == "step":
                result, self.state = self.step(self.state, (self.images, self.labels))
            else:
                result = self.forward(self.state, self.images)
        jax.block_until_ready((self.state, result))
        return (time.perf_counter() - began) / count

    def memory(self) -> dict[str, float | None]:
        """MB at the peak: of the process, and of its share of the accelerator."""
        stats = jax.local_devices()[0].memory_stats() or {}
        device = stats.get("peak_bytes_in_use")
        return {"process": measure.peak_memory(), "device": device and device / 1e6}
