# SPDX-License-Identifier: Apache-2.0
"""Folders of images by class, with and without splits; other sizes and modes; what cannot be read."""

import logging

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data.image_folders import class_folders_lie_in, list_files, read_image
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """CLASS/NUMBER.png, six of each of two classes."""
    for index, image in enumerate(IMAGES):
        file = tmp_path / "set" / ("cat", "dog")[index % 2] / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return tmp_path / "set"


def source(folder, **options):
    return ImageSet(
        path=str(folder), **{"download": False, "validation_fraction": 0.0, "test_fraction": 0.2, **options}
    )


def test_classes_by_folder(folder):
    images = source(folder)
    assert images.spec.class_names == ("cat", "dog") and images.num_examples("test") == 2
    seen = [image for split in images.splits for image in _all(images, split)]
    assert sorted(map(bytes, seen)) == sorted(map(bytes, IMAGES))
    first = images.load("train", np.arange(images.num_examples("train")), None)
    cats = set(map(bytes, IMAGES[::2]))
    assert [bytes(image) in cats for image in first["image"]] == [label == 0 for label in first["label"]]
    assert (folder.parent / "set.prepared").is_dir() and sorted(p.name for p in folder.iterdir()) == ["cat", "dog"]


def _all(images, split):
    return images.load(split, np.arange(images.num_examples(split)), None)["image"]


def test_splits_by_folder(folder, tmp_path):
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        for kind in ("cat", "dog"):
            (tmp_path / "split" / name / kind).mkdir(parents=True)
        for index in {"train": (0, 1, 2, 3), "validation": (4, 5), "test": (6, 7)}[split]:
            Image.fromarray(IMAGES[index]).save(tmp_path / "split" / name / ("cat", "dog")[index % 2] / f"{index}.png")
    assert class_folders_lie_in(tmp_path / "split")
    files = list_files(tmp_path / "split").files
    assert {split: len(part) for split, part in files.items()} == {"train": 4, "validation": 2, "test": 2}
    assert files["validation"][1] == ("val/dog/5.png", 1)
    (tmp_path / "split" / "test" / "cow").mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / "split" / "test" / "cow" / "0.png")
    with pytest.raises(ConfigError, match="test has classes that train lacks: cow"):
        list_files(tmp_path / "split")


def test_a_broken_image_is_an_error_or_skipped_and_counted(folder, caplog):
    file = folder / "dog" / "05.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ConfigError, match="dog/05.png: cannot be read as an image .* --config.data.bad_images=skip"):
        source(folder).labels("train")
    logger = logging.getLogger("perceiver_jax")
    logger.addHandler(caplog.handler)
    images = source(folder, bad_images="skip", test_fraction=0.1)
    assert images.num_examples("train") + images.num_examples("test") * ("test" in images.splits) == 11
    logger.removeHandler(caplog.handler)
    assert "skipped 1 of 12 images, first" in caplog.text
    with pytest.raises(ConfigError, match="bad_images='ignore': expected one of error, skip"):
        source(folder, bad_images="ignore")


def test_other_sizes_are_an_error_or_brought_to_one(folder):
    Image.fromarray(np.repeat(IMAGES[1], 2, axis=1)).save(folder / "dog" / "01.png")
    with pytest.raises(ConfigError, match="dog/01.png: 6 x 12 pixels: expected 6 x 6 .*image_size=N"):
        source(folder).labels("train")
    images = source(folder, image_size=4)
    assert images.spec.arrays["image"].shape == (4, 4, 3)
    read = read_image(folder / "dog" / "01.png", 6)
    np.testing.assert_array_equal(read, np.repeat(IMAGES[1], 2, axis=1)[:, 3:9])  # cut at the centre


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_modes_of_8_bits_become_rgb(tmp_path, mode):
    image = Image.fromarray(IMAGES[0]).convert(mode)
    image.save(tmp_path / "a.tif")
    read = read_image(tmp_path / "a.tif", None)
    assert read.shape == (6, 6, 3) and read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.asarray(image.convert("RGB")))


def test_16_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="a.png: mode I;16: expected 8 bits a channel"):
        read_image(tmp_path / "a.png", None)
