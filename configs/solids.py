# SPDX-License-Identifier: Apache-2.0
"""A small Perceiver on procedural solids: sixteen kinds of shape as point clouds, in any orientation, made on the fly.

The first thing to run: no download, about 90 s on two cores.

    python -m perceiver_jax.main --config=configs/solids.py --workdir=runs/solids

Aim: 95 % test accuracy. Measured on two cores, seeds 0, 1, 2: 96.68, 95.70, 96.29 % (mean 96.22, standard deviation
0.49); 1 min 32 s and 0.9 GB each.
"""

from perceiver_jax.config import ConfigDict, default, section, vary


def get_config(variants: str = "") -> ConfigDict:
    """16 latents x 64 on clouds of 128 points; variant `tiny` checks everything in half a minute."""
    config = default()
    config.batch_size = 64
    config.num_steps = 2000
    config.log_every_steps = 200
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 0.5  # 512 steps
    config.data = section("data", "solids", num_points=128, variation=0.15, noise=0.01)
    config.task = section("task", "classification")
    positions = section("positions", "fourier", fourier_bands=8, max_resolution=16.0)
    config.model = section(
        "model",
        "perceiver",
        adapter=section("adapter", "points", positions=positions),
        num_latents=16,
        latent_dim=64,
        num_cross_attends=2,
        num_blocks=2,
        num_self_attends_per_block=2,
        num_cross_attend_heads=1,
        num_self_attend_heads=2,
    )
    config.optimizer = section("optimizer", "adamw", learning_rate=4e-3, weight_decay=0.02, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=0.1)
    return vary(config, variants, {"tiny": tiny})


def tiny(config: ConfigDict) -> None:
    """Everything a run does, several times: log, evaluate, save."""
    config.num_steps = None
    config.num_epochs = 4.0
    config.log_every_steps = 20
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 1.0
    config.data.update(num_points=64, num_train=4096, num_validation=256, num_test=256)
    config.model.update(num_latents=8, latent_dim=32)
