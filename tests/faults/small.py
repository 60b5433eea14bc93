# SPDX-License-Identifier: Apache-2.0
"""A config whose 64 steps are over in seconds and have all in play that resuming must keep.

Micro-batches, an average of the parameters, dropout, augmentation, an evaluation every 8 steps, a save every 4, a
plateau that fires three times, and early stopping after 64 of 80 steps: no improvement is ever large enough.
"""

from configs.solids import get_config as solids
from perceiver_jax import registry
from perceiver_jax.config import section
from tests.faults.held import HeldSolids

registry.PARTS["data"]["held"] = registry.Part(HeldSolids, (HeldSolids,), ("seed",))


def get_config(variants: str = ""):
    config = solids("tiny")
    with config.unlocked():
        config.data = section(
            "data", "held", num_points=16, num_train=128, num_validation=48, num_test=32, rotation=180.0
        )
    config.batch_size, config.micro_batches, config.ema_decay = 16, 2, 0.9
    config.num_epochs, config.log_every_steps = 10.0, 3
    config.evaluation.every_epochs, config.checkpoint.every_epochs = 1.0, 0.5
    config.plateau.update(patience=2, min_delta=100.0)
    config.early_stopping.update(patience=7, min_delta=100.0)
    config.model.update(latent_dim=16, num_cross_attends=1, num_blocks=1, num_self_attends_per_block=1)
    config.model.dropout_rate = 0.1
    return config
