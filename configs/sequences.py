# SPDX-License-Identifier: Apache-2.0
"""Perceivers on patterned sequences of 50 to 200 steps with 64 features, made on the fly.

    python -m perceiver_jax.main --config=configs/sequences.py [--config.num_epochs=10 --config.batch_size=16]

Measured on two cores that others used too, seed 0: 99.50 % on test after 10 epochs (3 min). `:small`, `:base` and
`:large` have not been trained.
"""

from perceiver_jax.config import ConfigDict, default, section, vary
from perceiver_jax.models.sizes import SIZES


def get_config(variants: str = "") -> ConfigDict:
    """8 latents x 64, for two cores; variants: `small`, `base`, `large`, `tiny`."""
    config = default()
    config.batch_size = 32
    config.num_epochs = 10.0
    config.log_every_steps = 78
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 2.0
    config.data = section("data", "patterns", num_train=5000, min_length=50, longest=200, num_channels=64)
    config.task = section("task", "classification")
    positions = section("positions", "fourier", fourier_bands=32, max_resolution=200.0)
    config.model = section(
        "model",
        "perceiver",
        adapter=section("adapter", "sequence", positions=positions),
        num_latents=8,
        latent_dim=64,
        num_cross_attends=2,
        num_blocks=2,
        num_self_attends_per_block=1,
        num_cross_attend_heads=4,
        num_self_attend_heads=4,
        cross_attend_width="latents",
    )
    config.optimizer = section("optimizer", "adamw", learning_rate=2e-3, weight_decay=1e-4, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=0.2)
    return vary(
        config,
        variants,
        {
            "small": lambda config: sized(config, "small"),
            "base": lambda config: sized(config, "base"),
            "large": lambda config: sized(config, "large"),
            "tiny": tiny,
        },
    )


def sized(config: ConfigDict, size: str) -> None:
    """The published sizes: 100 epochs with a rate of 1e-4 and a weight decay of 1e-4."""
    config.num_epochs = 100.0
    config.model.update(SIZES[size])
    config.optimizer.learning_rate = 1e-4
    config.schedule.warmup_epochs = 1.0


def tiny(config: ConfigDict) -> None:
    """Everything a run does, on short sequences."""
    config.num_epochs = 4.0
    config.log_every_steps = 32
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 1.0
    config.data.update(num_train=2048, num_validation=128, num_test=128, min_length=20, longest=60)
    config.data.update(num_channels=8, num_buckets=2)
    config.model.update(num_latents=8, latent_dim=32, num_cross_attends=1, num_blocks=1)
