# SPDX-License-Identifier: Apache-2.0
"""Keras' example "Image classification with Perceiver" on CIFAR-100, exactly: 64 x 64 pixels in patches of 2.

    python -m perceiver_jax.main --config=configs/cifar100.py --config.data.path=DIR

Source: https://keras.io/examples/vision/perceiver_image_classification (Salama 2021), which reports 53 % accuracy and
81 % top-5 after 40 epochs. Adam as in its text; `:lamb` is what its first version trained with. `:tiny`: drawings made
on the fly. Larger images, other patches, wider networks, more iterations are overrides: `--config.data.image_size=72
--config.model.adapter.patch_size=4 --config.model.adapter.positions.length=324 --config.model.num_iterations=3`.
Not measured: it has not been trained to the end.
"""

from perceiver_jax.config import ConfigDict, default, section, vary


def get_config(variants: str = "") -> ConfigDict:
    """256 latents x 256, two iterations of a cross-attend and 4 layers; variants: `lamb`, `tiny`."""
    config = default()
    config.batch_size = 64
    config.num_epochs = 50.0
    config.log_every_steps = 100
    config.evaluation.batch_size = 256
    config.evaluation.update(metric="loss", mode="min")
    config.plateau.update(patience=3, factor=0.2)
    config.early_stopping.patience = 15
    config.data = section(
        "data",
        "images",
        path="data/cifar-100-python",
        address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        validation_fraction=0.1,
        image_size=64,
        flip=True,
        zoom=0.2,
    )
    config.task = section("task", "classification")
    positions = section("positions", "learned", length=32 * 32, dim=256)
    adapter = section("adapter", "image", positions=positions, patch_size=2, num_channels=256, add_positions=True)
    config.model = section("model", "keras_perceiver", adapter=adapter)
    config.optimizer = section("optimizer", "adam", learning_rate=1e-3)
    config.schedule = section("schedule", "constant")
    return vary(config, variants, {"lamb": lamb, "tiny": tiny})


def lamb(config: ConfigDict) -> None:
    """LAMB with the weight decay that the text defines and does not use."""
    config.optimizer = section("optimizer", "lamb", learning_rate=1e-3, weight_decay=1e-4)


def tiny(config: ConfigDict) -> None:
    """The same code on procedural images, without a download."""
    config.batch_size = 32
    config.num_epochs = 8.0
    config.log_every_steps = 64
    config.data = section("data", "drawings", num_train=4096, num_validation=256, num_test=256)
    config.data.update(image_size=16, flip=True, zoom=0.2)
    config.model.adapter.positions.update(length=64, dim=32)
    config.model.adapter.num_channels = 32
    config.model.update(num_latents=16, latent_dim=32, num_heads=2, num_blocks=2)
    config.model.update(ffn_units=(32, 32), classifier_units=(32,), dropout_rate=0.0)
    config.optimizer.learning_rate = 3e-3
