# SPDX-License-Identifier: Apache-2.0
"""A set of images: splits, statistics, and what is said where there is none."""

import pickle
import tarfile

import numpy as np
import pytest

from perceiver_jax.data.cifar import read_cifar
from perceiver_jax.data.image_set import ImageSet, channel_statistics
from perceiver_jax.errors import ConfigError


def source(path, **options):
    return ImageSet(path=str(path), **{"download": False, **options})


def test_splits_and_statistics(cifar_folder):
    images = source(cifar_folder.parent, validation_fraction=0.25)
    assert {split: images.num_examples(split) for split in images.splits} == {"train": 45, "validation": 15, "test": 12}
    assert np.bincount(images.labels("validation")).tolist() == [5, 5, 5]
    train = images.load("train", np.arange(45), None)["image"]
    np.testing.assert_allclose(images.spec.mean, train.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(images.spec.std, train.std((0, 1, 2)), rtol=1e-9)
    official = read_cifar(cifar_folder)[1]
    np.testing.assert_array_equal(images.load("test", np.arange(12), None)["image"], official["test"].image)
    both = np.concatenate([train, images.load("validation", np.arange(15), None)["image"]])
    assert sorted(map(bytes, both)) == sorted(map(bytes, official["train"].image))


def test_statistics_of_floats_and_of_a_flat_channel():
    images = np.random.default_rng(0).normal(3, 2, (5, 4, 4, 2)).astype(np.float32)
    images[..., 1] = 7
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, [images[..., 0].mean(), 7], rtol=1e-6)
    np.testing.assert_allclose(std, [images[..., 0].std(), 1], rtol=1e-6)


def test_pickles_without_its_arrays(cifar_folder):
    images = source(cifar_folder)
    images.labels("train")
    assert len(pickle.dumps(images)) < 2000
    assert pickle.loads(pickle.dumps(images)).num_examples("train") == 54


def test_an_archive_is_as_good_as_its_folder(cifar_folder, tmp_path):
    expected = source(cifar_folder).load("train", np.arange(3), None)["image"]
    (tmp_path / "archives").mkdir()
    file = tmp_path / "archives" / "cifar-10-python.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(cifar_folder, cifar_folder.name)
    address = f"https://example.org/{file.name}"
    for path in (file, file.parent, file.with_name("cifar-10-batches-py")):
        images = source(path, address=address, prepared_path=str(tmp_path / "unpacked"))
        np.testing.assert_array_equal(images.load("train", np.arange(3), None)["image"], expected)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be read as a .tar"):
        source(file).labels("train")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"no such folder. Fetch https://x.org/a.zip , unpack it into .* and run: "):
        source(tmp_path / "none", address="https://x.org/a.zip").labels("train")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"no image files here \(expected an official CIFAR folder; .*got notes.txt"):
        source(tmp_path).labels("train")


def test_a_fraction_out_of_range_is_named():
    with pytest.raises(ConfigError, match="validation_fraction=1.5: expected 0 or more, and less than 1"):
        source("x", validation_fraction=1.5)
