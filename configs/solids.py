# SPDX-License-Identifier: Apache-2.0
"""A Perceiver on procedural solids: twelve and more shapes as point clouds in any orientation, made on the fly.

The first thing to run: no download, about 90 s on two cores.

    python -m perceiver_jax.main --config=configs/solids.py --workdir=runs/solids
"""

from perceiver_jax.config import ConfigDict, default, section, vary


def get_config(variants: str = "") -> ConfigDict:
    """The default; variants: `tiny` (a minute's check of everything)."""
    config = default()
    config.num_epochs = 20.0
    config.batch_size = 32
    config.data = section("data", "solids", num_points=256)
    config.task = section("task", "classification")
    positions = section("positions", "fourier", fourier_bands=16, max_resolution=32.0)
    config.model = section(
        "model",
        "perceiver",
        adapter=section("adapter", "points", positions=positions),
        num_latents=32,
        latent_dim=128,
        num_cross_attends=2,
        num_blocks=2,
        num_self_attends_per_block=3,
        num_cross_attend_heads=1,
        num_self_attend_heads=4,
    )
    config.optimizer = section("optimizer", "adamw", learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=1.0)
    return vary(config, variants, {"tiny": tiny})


def tiny(config: ConfigDict) -> None:
    """Small enough for a minute on two cores, with several checkpoints and evaluations."""
    config.num_epochs = 4.0
    config.model.num_latents, config.model.latent_dim = 8, 32
