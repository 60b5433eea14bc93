# SPDX-License-Identifier: Apache-2.0
"""Slot Attention (Locatello et al. 2020): objects without labels, by reconstruction.

    python -m perceiver_jax.main --config=configs/slot_attention.py:shapes

Default and `:shapes`: up to six discs, squares and triangles on 64 pixels, the published 64 pixel model with 7 slots.
`:multi_dsprites`: sprites on grey, 6 slots. `:cpu`: patches and per-position MLPs on 32 pixels, for two cores: test
FG-ARI 0.819 (five seeds, 0.814 to 0.827), 25 min on one core. `:tiny`: a check, a minute. The others: not measured.
`:shapes,strided` and `:shapes,pixels` have cheaper decoders.
`:clevr6`, `:clevr6_seed`, `:tetrominoes`, `:published_multi_dsprites` and `:objects_room` read published files, e.g.
https://storage.googleapis.com/multi-object-datasets/clevr_with_masks/clevr_with_masks_train.tfrecords (10.5 GB) in
data/clevr_with_masks; `docs/data.md` has the others. `:own` takes a folder or .npz of images with or without masks:
--config.data.path=DIR_OR_NPZ (names in them: `perceiver_jax/data/scene_folders.py`, `scene_arrays.py`).
"""

import pathlib
import runpy

from perceiver_jax.config import ConfigDict, default, section, vary

ABLATIONS = ("one_iteration", "pixels", "strided")


def get_config(variants: str = "") -> ConfigDict:
    """7 slots x 64, 3 iterations, Adam 4e-4; the variants are the functions below, or set prediction's after it."""
    if variants.split(",")[0] == "set_prediction":
        sets = runpy.run_path(str(pathlib.Path(__file__).with_name("set_prediction.py")))
        return sets["get_config"](variants.partition(",")[2])
    config = default()
    config.num_epochs, config.log_every_steps = 100.0, 100
    config.evaluation.update(batch_size=64, metric="fg_ari", mode="max")
    config.data, config.task = section("data", "shapes"), section("task", "object_discovery")
    encoder = section("encoder", "convolutions", num_channels=32)
    decoder = section("decoder", "convolutions", num_channels=32, strides=(1, 1, 1))
    config.model = section("model", "slot_autoencoder", encoder=encoder, decoder=decoder)
    config.optimizer = section("optimizer", "adam", learning_rate=4e-4)
    config.schedule = section("schedule", "exponential", gamma=0.5, decay_steps=100_000, warmup_steps=10_000)
    others = {"shapes": lambda config: None, "multi_dsprites": multi_dsprites, "own": own, "cpu": cpu, "tiny": tiny}
    published = {"clevr6": clevr6, "clevr6_seed": clevr6_seed, "pixels": pixels}
    published["tetrominoes"] = lambda config: of_file(config, "tetrominoes", 4)
    published["objects_room"] = lambda config: of_file(config, "objects_room", 7)
    published["published_multi_dsprites"] = lambda config: of_file(config, "multi_dsprites_colored_on_grayscale", 6)
    changes = {"strided": strided, "one_iteration": lambda config: config.model.update(num_iterations=1)}
    return vary(config, variants, others | published | changes)


def multi_dsprites(config: ConfigDict) -> None:
    """2 to 5 sprites on grey, 60,000 images, 500,000 steps, as published."""
    config.data = section("data", "sprites", num_train=60_000)
    config.model.num_slots = 6
    config.batch_size, config.num_steps = 64, 500_000


def clevr6(config: ConfigDict) -> None:
    """CLEVR's scenes of up to 6 objects, batch 64, 500,000 steps, as published (google-research/slot_attention)."""
    clevr6_seed(config)
    config.batch_size, config.num_steps = 64, 500_000


def clevr6_seed(config: ConfigDict) -> None:
    """The same on batches of 32 for 200 epochs."""
    config.data = section("data", "multi_object", path="data/clevr_with_masks", max_objects=6, image_size=128)
    config.model.encoder = section("encoder", "convolutions", num_channels=64, strides=(1, 1, 1, 1))
    config.model.decoder = section("decoder", "convolutions", num_channels=64, strides=(2, 2, 2, 2, 1))
    config.batch_size, config.num_epochs = 32, 200.0


def of_file(config: ConfigDict, dataset: str, num_slots: int) -> None:
    """A published file, 60,000 images, a slot for each object and the background, batch 64, 500,000 steps."""
    config.data = section("data", "multi_object", path=f"data/{dataset.partition('_colored')[0]}", dataset=dataset)
    config.model.num_slots = num_slots
    config.batch_size, config.num_steps = 64, 500_000


def own(config: ConfigDict) -> None:
    """Your images on 64 pixels, of up to 6 objects where there are masks; they may be few, so warm-up is in epochs."""
    config.data = section("data", "own_scenes", path="data/own_scenes", image_size=64, max_objects=6)
    config.evaluation.update(metric="mse", mode="min")
    config.schedule = section("schedule", "cosine", warmup_epochs=5.0)


def pixels(config: ConfigDict) -> None:
    """After any: an MLP at each 2 x 2 pixels as decoder."""
    config.model.decoder = section("decoder", "pixels", patch_size=2, num_channels=128)


def strided(config: ConfigDict) -> None:
    """After any: convolutions from an eighth of the image up as decoder."""
    config.model.decoder = section("decoder", "convolutions", num_channels=32, strides=(2, 2, 2, 1))


def cpu(config: ConfigDict) -> None:
    """2 to 4 objects on 32 pixels, an MLP on each patch with 4 pixels around it, and one at each position."""
    config.data.update(size=32, max_objects=4, min_radius=0.12, max_radius=0.2)
    config.model.encoder = section("encoder", "patches", patch_size=4, context=4, num_channels=128)
    config.model.decoder = section("decoder", "pixels", patch_size=4, fourier_bands=8, num_channels=64)
    config.model.update(num_slots=5, initializer="learned_noise", gradient="bilevel")
    config.task.num_iterations, config.num_steps = 5, 30_000  # rounds in evaluation; 3 in training
    config.optimizer.update(learning_rate=2e-3, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_steps=500)


def tiny(config: ConfigDict) -> None:
    """A few hundred steps of `cpu` at 16 pixels."""
    cpu(config)
    config.data.update(size=16, max_objects=2, min_objects=1, num_train=2048, num_validation=64, num_test=64)
    config.data.update(min_radius=0.15, max_radius=0.25)
    config.model.encoder.num_channels = config.model.decoder.num_channels = 32
    config.model.update(num_slots=3, slot_dim=32, mlp_dim=32, feature_dim=32)
    config.num_steps, config.log_every_steps, config.schedule.warmup_steps = 256, 32, 32
