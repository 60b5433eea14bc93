# SPDX-License-Identifier: Apache-2.0
"""A Perceiver on ModelNet40's point clouds (Jaegle et al. 2021, section 4.4), from HDF5, text, OFF, PCD or PLY.

    python -m perceiver_jax.main --config=configs/modelnet40.py --config.data.path=DIR

Default: 128 latents x 512, a community recipe that claims 85-92 %. `:paper`: the published model, 85.7 % (its best run
on the test set). `:modelnet10`: sized for two cores, for ModelNet10 in the same layout. `:tiny`: on procedural solids.
Not measured: the default and `:paper` have not been trained to the end.
"""

from perceiver_jax.config import ConfigDict, default, section, vary
from perceiver_jax.data.stand_in import clouds

MODELNET10 = "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"  # OFF meshes


def get_config(variants: str = "") -> ConfigDict:
    """128 latents x 512, 2 cross-attends, LAMB; variants: `paper`, `modelnet10`, `tiny`."""
    config = default()
    config.batch_size = 8
    config.num_epochs = 120.0
    config.data = section(
        "data",
        "modelnet",
        path="data/modelnet40_ply_hdf5_2048",
        num_points=2048,
        normalize_before="center",
        scale=(0.99, 1.01),
        scale_per_point=True,
        normalize="cube",
    )
    config.task = section("task", "classification")
    positions = section("positions", "fourier", fourier_bands=64, max_resolution=1120.0)
    config.model = section(
        "model",
        "perceiver",
        adapter=section("adapter", "points", positions=positions),
        num_latents=128,
        latent_dim=512,
        num_cross_attends=2,
        num_blocks=2,
        num_self_attends_per_block=6,
        num_cross_attend_heads=8,
        num_self_attend_heads=8,
        cross_attend_width="latents",
        dropout_rate=0.1,
    )
    config.optimizer = section("optimizer", "lamb", learning_rate=1e-3, weight_decay=0.1, clip_norm=10.0)
    config.schedule = section("schedule", "multistep", milestones=(84.0, 102.0, 114.0), gamma=0.1)
    return vary(config, variants, {"paper": paper, "modelnet10": modelnet10, "tiny": tiny})


def paper(config: ConfigDict) -> None:
    """512 latents x 1024 and one cross-attend head; 1120 in the paper is the top band, so the sampling rate is 2240.

    The paper gives neither weight decay nor clipping nor epochs: those of Perceiver IO, and 50,000 steps.
    """
    config.batch_size = 512
    config.num_steps = 50_000
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 10.0
    config.model.adapter.positions.max_resolution = 2240.0
    config.model.num_latents, config.model.latent_dim = 512, 1024
    config.model.num_cross_attend_heads = 1
    config.model.cross_attend_width = "inputs"
    config.model.dropout_rate = 0.0
    config.schedule = section("schedule", "constant")


def modelnet10(config: ConfigDict) -> None:
    """32 latents x 128 on 512 points, another 512 of the 1,024 each epoch; evaluated on all of them.

    Aim: 90.5 % on two cores in 10 minutes a seed. Measured on two cores, seeds 0, 1, 2: 91.30, 91.30, 91.63 % on test
    (mean 91.41, standard deviation 0.19), best checkpoint by validation; 9 min 16 s and 1.2 GB each.
    """
    config.batch_size = 32
    config.num_epochs = 28.0
    config.log_every_steps = 112
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 2.0
    config.data.update(path="data/ModelNet10", address=MODELNET10, up_axis="z")
    config.data.update(num_points=512, num_evaluation_points=1024, resample=True)
    config.data.update(normalize_before="sphere", normalize="none", jitter=0.01, rotation=15.0)
    config.data.update(scale=(0.8, 1.25), scale_per_point=False, scale_per_axis=True)
    config.model.adapter.positions.update(fourier_bands=16, max_resolution=32.0)
    config.model.update(num_latents=32, latent_dim=128, num_self_attends_per_block=3)
    config.model.update(num_cross_attend_heads=1, num_self_attend_heads=4)
    config.optimizer = section("optimizer", "adamw", learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=2.0)
    config.task.label_smoothing = 0.1
    config.ema_decay = 0.998


def tiny(config: ConfigDict) -> None:
    """The same code on procedural solids, without a download."""
    config.batch_size = 32
    config.num_epochs = 2.0
    config.num_steps = None
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 1.0
    config.data = section("data", "solids", num_points=128, num_train=2048, num_validation=256, num_test=256)
    config.model.adapter.positions.update(fourier_bands=8, max_resolution=16.0)
    config.model.num_latents, config.model.latent_dim = 16, 64
    config.model.num_self_attends_per_block = 2
    config.schedule = section("schedule", "constant")


STAND_INS = {"modelnet": clouds(40, train=8_856, validation=984, test=2_468)}
"""ModelNet40 as `compile` takes it, which reads none."""
