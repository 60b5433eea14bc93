# SPDX-License-Identifier: Apache-2.0
"""What is prepared comes back as it was; sets that TFDS itself prepared are read alike."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from perceiver_jax.data import prepared_images
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.errors import ConfigError

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


def test_a_set_of_tfds(tmp_path):
    tfds.disable_progress_bar()
    Official(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    place = tmp_path / "official" / "3.0.2"
    for path in (tmp_path, place.parent, place):
        images = ImageSet(path=str(path), validation_fraction=0.0, test_fraction=0.3, download=False)
        assert images.spec.class_names == NAMES
        seen = images.load("train", np.arange(images.num_examples("train")), None)["image"]
        assert {bytes(image) for image in seen} < {bytes(image) for image in IMAGES}
