# SPDX-License-Identifier: Apache-2.0
"""What is prepared comes back as it was; sets that TFDS itself prepared are read alike."""

import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from perceiver_jax.data import prepared_images
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.data.patterns import Patterns
from perceiver_jax.errors import ConfigError
from tests.data.conftest import CIFAR_CLASSES, write_cifar

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3)).astype(np.uint8)
LABELS = np.arange(9) % 3
NAMES = ("a", "b", "c")


class Official(tfds.core.GeneratorBasedBuilder):
    """As TFDS' own sets are: PNG images, and more features than we need."""

    VERSION = tfds.core.Version("3.0.2")
    name = "official"
    pkg_dir_path = None

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(4, 5, 3)),
            "label": tfds.features.ClassLabel(names=list(NAMES)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, image in enumerate(IMAGES):
            yield index, {"id": f"{index}", "image": Image.fromarray(image), "label": int(LABELS[index])}


def test_round_trip_and_damage(tmp_path):
    splits = {"train": lambda: zip(IMAGES, LABELS, strict=True), "test": lambda: zip(IMAGES[:2], LABELS, strict=False)}
    prepared_images.write(tmp_path, NAMES, (4, 5, 3), splits)
    names, read = prepared_images.read(tmp_path)
    assert names == NAMES and sorted(read) == ["test", "train"]
    np.testing.assert_array_equal(read["train"].image, IMAGES)
    np.testing.assert_array_equal(read["train"].label, LABELS)
    assert len(read["test"].label) == 2
    for file in tmp_path.rglob("*train*array_record*"):
        file.write_bytes(b"damage")
    with pytest.raises(ConfigError, match="the prepared set is damaged"):
        prepared_images.read(tmp_path)


@pytest.mark.parametrize("version", ["cifar-10-batches-py", "cifar-100-binary"])
def test_an_official_archive_becomes_a_set_of_tfds(tmp_path, version):
    write_cifar(tmp_path / version, version)
    with tarfile.open(tmp_path / "official.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / version, version)
    official = ImageSet(path=str(tmp_path / "official.tar.gz"), validation_fraction=0.0, flip=True)
    place = prepared_images.write_source(tmp_path / "tfds", official)
    builder = tfds.builder_from_directory(str(place))
    assert builder.info.features["label"].names == list(CIFAR_CLASSES) == list(official.spec.class_names)
    again = ImageSet(path=str(tmp_path / "tfds"), validation_fraction=0.0)
    assert again.splits == official.splits == ("train", "test") and again.spec == official.spec
    for split in official.splits:
        count = official.num_examples(split)
        assert count == again.num_examples(split) == builder.info.splits[split].num_examples
        ours, theirs = again.load(split, np.arange(count), None), official.load(split, np.arange(count), None)
        np.testing.assert_array_equal(ours["image"], theirs["image"])
        np.testing.assert_array_equal(ours["label"], theirs["label"])
    first = builder.as_data_source(split="train")[0]
    np.testing.assert_array_equal(first["image"], official.load("train", np.arange(1), None)["image"][0])
    with pytest.raises(ConfigError, match="tfds is there already. Name a new folder"):
        prepared_images.write_source(tmp_path / "tfds", official)


def test_only_images_are_written(tmp_path):
    with pytest.raises(ConfigError, match="only images of uint8 with classes"):
        prepared_images.write_source(tmp_path / "tfds", Patterns())


def test_a_set_of_tfds(tmp_path):
    tfds.disable_progress_bar()
    Official(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    place = tmp_path / "official" / "3.0.2"
    for path in (tmp_path, place.parent, place):
        images = ImageSet(path=str(path), validation_fraction=0.0, test_fraction=0.3, download=False)
        assert images.spec.class_names == NAMES
        seen = images.load("train", np.arange(images.num_examples("train")), None)["image"]
        assert {bytes(image) for image in seen} < {bytes(image) for image in IMAGES}
