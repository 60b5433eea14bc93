# SPDX-License-Identifier: Apache-2.0
"""The published models for ImageNet: the Perceiver (Jaegle et al. 2021) and Perceiver IO (2021b) in three versions.

    python -m perceiver_jax.main --config=configs/imagenet.py:io_fourier --config.data.path=DIR

Default: 8 cross-attends, 44,912,254 parameters, 78.0 %. `:io_fourier`, `:io_learned`, `:io_conv`: one cross-attend and
a query decoder; 48,440,627, 62,255,848 and 48,646,522 parameters; 79.0, 72.7 and 82.1 %. `:tiny`: all of it, drawings.
DIR: ImageNet as TFDS prepares it (`array_record`), or a folder for each class below `train` and `val`; images are read
one by one. Not measured: nothing here was trained to the end.

The recipe is the published one (appendix of the first paper; for IO also its code,
github.com/google-deepmind/deepmind-research/tree/master/perceiver/train): random windows, flip, RandAugment of 4 layers
and magnitude 5, LAMB without warm-up; for IO mixup 0.2 on half of the batch, CutMix on the other and label smoothing.
Different here: RandAugment acts after resizing; an image is mixed with another one of the batch, where theirs reads two
for one; resized images are rounded to bytes; the training split is without the 1 % that chooses the checkpoint.
"""

from perceiver_jax.config import ConfigDict, default, section, vary
from perceiver_jax.data.stand_in import images

SIZE = 224
RECIPE = {"flip": True, "min_crop_area": 0.08, "central_crop": 0.875}  # 224 / 256
RECIPE |= {"rand_augment_layers": 4, "rand_augment_magnitude": 5.0}


def get_config(variants: str = "") -> ConfigDict:
    """512 latents x 1024 on 224 x 224 pixels; variants: `io_fourier`, `io_learned`, `io_conv`, `tiny`."""
    config = default()
    config.batch_size = 1024
    config.num_epochs = 120.0
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 5.0
    config.pipeline.num_workers = 8  # of the processes that decode; as many as there are cores to spare
    config.data = section("data", "images", path="data/imagenet", image_size=SIZE, **RECIPE)
    config.data.update(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    config.data.update(validation_is_test=True, validation_fraction=0.01)
    config.task = section("task", "classification")
    config.model = section(
        "model", "perceiver", adapter=section("adapter", "image", positions=fourier(SIZE)), **LATENTS
    )
    config.model.update(num_cross_attends=8, num_blocks=8, zero_head=True)
    config.optimizer = section("optimizer", "lamb", learning_rate=4e-3, weight_decay=0.1, clip_norm=10.0)
    config.schedule = section("schedule", "multistep", milestones=(84.0, 102.0, 114.0), gamma=0.1)
    variants_by_name = {"io_fourier": io_fourier, "io_learned": io_learned, "io_conv": io_conv, "tiny": tiny}
    return vary(config, variants, variants_by_name)


LATENTS = {
    "num_latents": 512,
    "latent_dim": 1024,
    "num_self_attends_per_block": 6,
    "num_cross_attend_heads": 1,
    "num_self_attend_heads": 8,
}


def fourier(resolution: int) -> ConfigDict:
    """64 bands up to half the resolution."""
    return section("positions", "fourier", fourier_bands=64, max_resolution=float(resolution))


def perceiver_io(config: ConfigDict, adapter: ConfigDict, query_residual: bool) -> None:
    """One cross-attend, 8 x 6 shared layers, one query; 2e-3 for 55 epochs, then a cosine for 55."""
    config.model = section("model", "perceiver_io", adapter=adapter, num_blocks=8, **LATENTS)
    config.model.query_residual = query_residual
    config.num_epochs = 110.0
    config.task.update(label_smoothing=0.1, mixup_alpha=0.2, cutmix_alpha=1.0)
    config.optimizer.learning_rate = 2e-3
    config.schedule = section("schedule", "flat_cosine", flat_epochs=55.0)


def io_fourier(config: ConfigDict) -> None:
    """Pixels with Fourier positions."""
    perceiver_io(config, section("adapter", "image", positions=fourier(SIZE)), query_residual=True)


def io_learned(config: ConfigDict) -> None:
    """Pixels and learned positions, each projected to 256 channels."""
    positions = section("positions", "learned", length=SIZE * SIZE, dim=256)
    adapter = section("adapter", "image", positions=positions, num_channels=256, position_channels=256)
    perceiver_io(config, adapter, query_residual=False)


def io_conv(config: ConfigDict) -> None:
    """56 x 56 outputs of a convolution with Fourier positions."""
    perceiver_io(config, section("adapter", "convolution", positions=fourier(SIZE // 4)), query_residual=True)


def tiny(config: ConfigDict) -> None:
    """All of it on drawings of 20 x 20 pixels, brought to 16 x 16; so augmented, three epochs teach next to nothing."""
    config.batch_size, config.log_every_steps = 32, 64
    config.pipeline.num_workers = 0
    config.evaluation.every_epochs = config.checkpoint.every_epochs = 1.0
    sizes = {"size": 20, "image_size": 16, "num_train": 4096, "num_validation": 256, "num_test": 256}
    config.data = section("data", "drawings", **RECIPE | {"min_crop_area": 0.5}, **sizes)  # less, and no figure is left
    positions = config.model.adapter.positions
    if positions.name == "learned":
        positions.update(length=16 * 16, dim=16)
    else:
        positions.update(fourier_bands=8, max_resolution=16.0)
    config.model.update(num_latents=16, latent_dim=64, num_self_attends_per_block=1, num_self_attend_heads=4)
    config.optimizer = section("optimizer", "adamw", learning_rate=2e-3, weight_decay=0.02, clip_norm=1.0)
    shorter = 3.0 / config.num_epochs
    config.num_epochs = 3.0
    config.schedule.milestones = tuple(shorter * epoch for epoch in config.schedule.milestones)
    if config.schedule.name == "flat_cosine":
        config.schedule.flat_epochs *= shorter


STAND_INS = {"images": images(1000, train=1_268_355, validation=12_812, test=50_000)}
"""ImageNet as `compile` takes it, which reads none."""
