# SPDX-License-Identifier: Apache-2.0
"""Arrays and idx files: every way to name them gives the same images; what is wrong is named."""

import gzip
import struct

import numpy as np
import pytest

from perceiver_jax.data.image_arrays import read_arrays, read_idx
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(12) % 3


def write_idx(folder, prefix, images, labels, packed):
    for name, array, code in (("images-idx3-ubyte", images, 3), ("labels-idx1-ubyte", labels, 1)):
        head = struct.pack(">BBBB", 0, 0, 8, code) + struct.pack(f">{code}i", *array.shape)
        content = head + array.astype(np.uint8).tobytes()
        if packed:
            (folder / f"{prefix}-{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / f"{prefix}-{name}").write_bytes(content)


def test_npz_and_npy_and_keras_names(tmp_path):
    (tmp_path / "npy").mkdir()
    np.savez(tmp_path / "a.npz", train_images=IMAGES, train_labels=LABELS, class_names=np.array(["a", "b", "c"]))
    np.savez(tmp_path / "b.npz", x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:3], y_test=LABELS[:3, None])
    np.save(tmp_path / "npy" / "train_images.npy", IMAGES)
    np.save(tmp_path / "npy" / "train_labels.npy", LABELS)
    for path in ("a.npz", "b.npz", "npy"):
        names, splits = read_arrays(tmp_path / path)
        np.testing.assert_array_equal(splits["train"].image, IMAGES)
        np.testing.assert_array_equal(splits["train"].label, LABELS)
        assert names == (("a", "b", "c") if path == "a.npz" else ("0", "1", "2"))
    assert read_arrays(tmp_path / "b.npz")[1]["test"].image.shape == (3, 5, 4, 3)
    source = ImageSet(path=str(tmp_path / "a.npz"), validation_fraction=0.25, test_fraction=0.25)
    assert {split: source.num_examples(split) for split in source.splits} == {"train": 6, "validation": 3, "test": 3}


@pytest.mark.parametrize("packed", [True, False])
def test_idx(tmp_path, packed):
    write_idx(tmp_path, "train", IMAGES[..., 0], LABELS, packed)
    write_idx(tmp_path, "t10k", IMAGES[:4, ..., 0], LABELS[:4], packed)
    names, splits = read_idx(tmp_path)
    assert names == ("0", "1", "2")
    np.testing.assert_array_equal(splits["train"].image, IMAGES[..., :1])
    np.testing.assert_array_equal(splits["test"].label, LABELS[:4])
    assert ImageSet(path=str(tmp_path), validation_fraction=0.0).spec.arrays["image"].shape == (5, 4, 1)


def test_floats_stay_floats(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=IMAGES / 255, train_labels=LABELS)
    source = ImageSet(path=str(tmp_path / "a.npz"), validation_fraction=0.0, flip=True, zoom=0.1)
    image = source.load("train", np.arange(3), 0)["image"]
    assert image.dtype == np.float32 and source.spec.arrays["image"].dtype == "float32" and image.max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": IMAGES[:, 0, 0]}, r"train_images has shape \(12, 3\): expected \(images, height, width"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)[..., [0] * 8]}, "looks like channels first: move them last"),
        ({"train_images": IMAGES.astype(np.int64)}, "train_images has type int64: expected uint8, or floating point"),
        ({"train_images": np.full((12, 5, 4, 3), np.nan)}, "12 images hold NaN or infinity, the first is number 0"),
        ({"train_labels": LABELS[:7]}, "12 images with 7 labels"),
        ({"train_labels": LABELS / 2}, "12 images with 12 labels of float64: expected one integer each"),
        ({"train_labels": LABELS + 1}, "train has labels from 1 to 3: expected 0 to 2. Subtract 1"),
        ({"train_labels": LABELS - 1}, "train has labels from -1 to 1: expected 0 to 1"),
        (
            {"train_labels": LABELS * 10**8},
            "has the label 200000000, but 12 examples: expected classes",
        ),
        ({"train_images": IMAGES * 1e300}, "12 images hold NaN or infinity"),
        ({"class_names": np.array(["a", "b"])}, "train has labels from 0 to 2: expected 0 to 1"),
        ({"test_images": IMAGES[:2, :3]}, "has test_images but no test_labels"),
        ({"test_images": IMAGES[:2, :3], "test_labels": LABELS[:2]}, r"test has images of shape \(3, 4, 3\): expected"),
        (
            {
                "train_labels": LABELS // 2,
                "test_images": IMAGES[:1],
                "test_labels": [2],
                "class_names": ["a", "b", "c"],
            },
            "test has classes that train lacks: c",
        ),
    ],
)
def test_wrong_arrays_are_named(tmp_path, change, message):
    np.savez(tmp_path / "a.npz", **{"train_images": IMAGES, "train_labels": LABELS, **change})
    with pytest.raises(ConfigError, match=message):
        ImageSet(path=str(tmp_path / "a.npz")).labels("train")


def test_broken_files_are_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ConfigError, match="a.npz: cannot be read"):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", pictures=IMAGES)
    with pytest.raises(ConfigError, match="expected train_images or x_train, got pictures"):
        read_arrays(tmp_path / "b.npz")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ConfigError, match="train-images-idx3-ubyte.gz: cannot be read"):
        read_idx(tmp_path)
