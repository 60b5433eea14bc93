# SPDX-License-Identifier: Apache-2.0
"""Images that are read one by one: the same as those in memory, and memory does not grow with the set."""

import logging
import pickle
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.data.images_by_id import ImagesById
from perceiver_jax.errors import ConfigError

NAMES = ("cat", "dog")
SIZES = ((48, 64), (64, 48), (56, 56))  # in turn
RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 256, (*SIZES[i % 3], 3)).astype(np.uint8) for i in range(60)]
EACH = 64 * 48 * 3
EMPTY = {"download": False, "validation_fraction": 0.0, "test_fraction": 0.2}


class Photos(tfds.core.GeneratorBasedBuilder):
    """Like ImageNet at TFDS: files of any size; `validation` is what one tests on, `test` has no labels."""

    VERSION = tfds.core.Version("1.0.0")
    name = "photos"
    pkg_dir_path = None

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=NAMES)}
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        splits = {"train": range(40), "validation": range(40, 50), "test": range(50, 60)}
        return {split: self._generate_examples(split, rows) for split, rows in splits.items()}

    def _generate_examples(self, split, rows):
        for i in rows:
            yield i, {"image": Image.fromarray(IMAGES[i]), "label": -1 if split == "test" else i % 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    Photos(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CLASS/NUMBER.png."""
    top = tmp_path_factory.mktemp("files") / "set"
    for i, image in enumerate(IMAGES):
        (top / NAMES[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(top / NAMES[i % 2] / f"{i:02}.png")
    return top


def loaded(source, epoch=None):
    return {split: source.load(split, np.arange(source.num_examples(split)), epoch) for split in source.splits}


def test_files_are_the_same_as_in_memory(folder):
    """But for mean and std, which are those of the augmentation's output."""
    options = EMPTY | {"path": str(folder), "image_size": 24, "flip": True, "rand_augment_layers": 2}
    stored, by_id = ImageSet(**options), ImageSet(**options, memory_gigabytes=0.0)
    for epoch in (None, 3):
        for split, batch in loaded(stored, epoch).items():
            for name, array in loaded(by_id, epoch)[split].items():
                np.testing.assert_array_equal(array, batch[name])
    assert stored.spec == by_id.spec  # all of so small a set are in the sample
    assert sorted(path.name for path in folder.parent.iterdir()) == ["set", "set.prepared"]


@pytest.mark.parametrize("form", ["folder", "photos"])
def test_memory_does_not_grow_with_the_set(form, request):
    options = EMPTY | {"image_size": 24, "memory_gigabytes": 0.0, "validation_is_test": True}
    source = ImageSet(**options, path=str(request.getfixturevalue(form)))
    count = source.num_examples("train")
    tracemalloc.start()
    for start in range(0, count, 4):
        batch = source.load("train", np.arange(start, start + 4), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch["image"].shape == (4, 24, 24, 3) and count >= 40
    assert peak < count * EACH / 2
    assert isinstance(source._read()[1]["train"], ImagesById) and len(pickle.dumps(source)) < 2000


def test_a_set_of_tfds_is_read_by_id_where_sizes_differ(photos):
    options = EMPTY | {"path": str(photos), "validation_is_test": True, "validation_fraction": 0.25}
    source = ImageSet(**options, image_size=24, min_crop_area=0.3, central_crop=0.875)
    assert {split: source.num_examples(split) for split in source.splits} == {"train": 30, "validation": 10, "test": 10}
    assert np.bincount(source.labels("validation")).tolist() == [5, 5]
    test = source.load("test", np.arange(10), None)
    assert test["label"].tolist() == [0, 1] * 5
    square = IMAGES[41]  # 56 x 56: the window is 49 x 49
    expected = Image.fromarray(square[4:53, 4:53]).resize((24, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(test["image"][1], expected)
    again = pickle.loads(pickle.dumps(source))
    one, other = source.load("train", np.arange(30), 0), source.load("train", np.arange(30), 1)
    np.testing.assert_array_equal(again.load("train", np.arange(30)[::-1], 0)["image"][::-1], one["image"])
    assert (one["image"] != other["image"]).any((1, 2, 3)).all()
    labels = [file.name for file in photos.with_name(f"{photos.name}.prepared").rglob("*.npy")]
    assert sorted(labels) == ["test.npy", "train.npy", "validation.npy"]
    with pytest.raises(ConfigError, match="labels from -1"):
        ImageSet(**options | {"validation_is_test": False}, image_size=24).labels("train")


def test_mean_and_std_may_be_given(folder):
    source = ImageSet(**EMPTY, path=str(folder), image_size=24, memory_gigabytes=0.0, mean=(1.0,) * 3, std=(2.0,) * 3)
    assert (source.spec.mean, source.spec.std) == ((1.0,) * 3, (2.0,) * 3)
    with pytest.raises(ConfigError, match="expected one of each for each channel, std above 0"):
        ImageSet(path="x", mean=(1.0,), std=(0.0,))


def test_what_cannot_be_is_named(folder, photos, tmp_path, caplog):
    options = EMPTY | {"path": str(folder), "memory_gigabytes": 0.0}
    with pytest.raises(ConfigError, match="bring all to one with --config.data.image_size=N, or keep them in memory"):
        ImageSet(**options).labels("train")
    with pytest.raises(ConfigError, match="images of 3 sizes"):
        ImageSet(**EMPTY, path=str(photos), validation_is_test=True).labels("train")
    broken = tmp_path / "broken"
    for i in range(12):
        (broken / NAMES[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(broken / NAMES[i % 2] / f"{i}.png")
    (broken / "dog" / "1.png").write_bytes((broken / "dog" / "1.png").read_bytes()[:60])
    options = EMPTY | {"path": str(broken), "memory_gigabytes": 0.0, "image_size": 8}
    with pytest.raises(ConfigError, match="dog/1.png: cannot be read as an image .*bad_images=skip"):
        loaded(ImageSet(**options))
    logger = logging.getLogger("perceiver_jax")
    logger.addHandler(caplog.handler)
    source = ImageSet(**options, bad_images="skip")
    assert sum(map(source.num_examples, source.splits)) == 11 and loaded(source)
    assert "skipped 1 of 12 images, first" in caplog.text
    caplog.clear()
    again = ImageSet(**options, bad_images="skip")
    assert sum(map(again.num_examples, again.splits)) == 11
    logger.removeHandler(caplog.handler)
    assert "skipped" not in caplog.text  # the second time it is known
