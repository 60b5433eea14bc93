# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from perceiver_jax.data.scene_masks import Scene
from perceiver_jax.data.stored_scenes import read, write
from perceiver_jax.errors import ConfigError


def scene(number, size=4):
    return Scene(np.full((size, size, 3), number, np.uint8), np.eye(size, dtype=np.uint8), np.ones((2, 10), np.float32))


def test_what_is_written_is_read_for_any_number_of_scenes(tmp_path):
    """The header is written before the number is known."""
    write(tmp_path, [("train", scene(i % 256)) for i in range(1500)] + [("test", scene(7))])
    splits = read(tmp_path)
    assert {split: len(arrays["image"]) for split, arrays in splits.items()} == {"train": 1500, "test": 1}
    np.testing.assert_array_equal(splits["train"]["image"][:, 0, 0, 0], np.arange(1500) % 256)
    np.testing.assert_array_equal(splits["test"]["objects"][0], np.eye(4))
    assert all(isinstance(array, np.memmap) for array in splits["train"].values())


def cut(folder):
    file = folder / "train" / "objects.npy"
    file.write_bytes(file.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "damaged .*mmap length"),
        (lambda folder: (folder / "test" / "objects.npy").unlink(), "arrays do not fit"),
        (lambda folder: np.save(folder / "test" / "image.npy", np.zeros((1, 4, 5, 3), np.uint8)), "arrays do not fit"),
        (lambda folder: np.save(folder / "train" / "attributes.npy", np.ones((2, 2, 10))), "arrays do not fit"),
        (
            lambda folder: [np.save(folder / k / "properties.npy", np.ones((1, 2), "f4")) for k in ("train", "test")],
            "fit",
        ),
        (lambda folder: (folder / "train").rename(folder / "other"), "no training split"),
    ],
)
def test_what_is_damaged_is_said(tmp_path, damage, said):
    write(tmp_path, [("train", scene(0)), ("train", scene(1)), ("test", scene(2))])
    damage(tmp_path)
    with pytest.raises(ConfigError, match=f"{tmp_path.name}: the prepared set is .*{said}.* Delete it and run again"):
        read(tmp_path)
