# SPDX-License-Identifier: Apache-2.0
"""Your own data: a folder of images by class, arrays (.npz), or a Python object with `__len__` and `__getitem__`.

    python -m perceiver_jax.main --config=configs/own_data.py --config.data.path=DIR_OR_NPZ
    python -m perceiver_jax.main --config=configs/own_data.py:python --config.data.factory=my_data.py:examples
    python -m perceiver_jax.main --config=configs/own_data.py:sequences --config.data.factory=my_data.py:examples

`:python` takes examples of one shape, e.g. images, `:sequences` such of any length; both begin with those at the end of
this file. The default is a small model on patches of images of 32 x 32 pixels. `check_data` shows what it will see.
"""

import numpy as np

from perceiver_jax.config import ConfigDict, default, section, vary


def get_config(variants: str = "") -> ConfigDict:
    """32 latents x 128 on 64 patches; variants: `python`, `sequences`."""
    config = default()
    config.num_epochs = 20.0
    config.data = section("data", "images", path="data/own", image_size=32, crop_padding=2, flip=True)
    config.task = section("task", "classification")
    positions = section("positions", "fourier", fourier_bands=8, max_resolution=8.0)
    config.model = section(
        "model",
        "perceiver",
        adapter=section("adapter", "image", positions=positions, patch_size=4),
        num_latents=32,
        latent_dim=128,
        num_self_attends_per_block=4,
        num_self_attend_heads=4,
        cross_attend_width="latents",
    )
    config.optimizer = section("optimizer", "adamw", learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=1.0)
    return vary(config, variants, {"python": python, "sequences": sequences})


def python(config: ConfigDict) -> None:
    """Images (height, width, channels) from a Python object."""
    config.data = section("data", "own", factory="configs/own_data.py:images")


def sequences(config: ConfigDict) -> None:
    """Sequences (length, channels) from a Python object."""
    config.data = section("data", "own_sequences", factory="configs/own_data.py:waves")
    positions = config.model.adapter.positions
    config.model.adapter = section("adapter", "sequence", positions=positions)


class Waves:
    """200 sines of 3 frequencies, the class, and 20 to 40 steps."""

    class_names = ("slow", "medium", "fast")

    def __len__(self):
        return 200

    def __getitem__(self, i):
        time = np.arange(20 + i % 21)[:, None]
        wave = np.sin(time * (1 + i % 3) / 5 + i)
        return {"input": wave, "label": i % 3, "mask": np.ones(len(wave))}


def waves(split):
    """The examples of a split; None: taken from those of train."""
    return Waves() if split == "train" else None


def images(split):
    """Images of stripes, in the same way."""
    grid, turned = np.arange(32), (lambda i, image: image if i % 2 else image.T)
    stripes = [turned(i, np.tile(128 + 100 * np.sin(grid / 2 + i), (32, 1))) for i in range(200)]
    examples = [{"input": image.astype(np.uint8)[..., None], "label": i % 2} for i, image in enumerate(stripes)]
    return examples if split == "train" else None
