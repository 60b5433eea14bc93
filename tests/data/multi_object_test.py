# SPDX-License-Identifier: Apache-2.0
import dataclasses
import gzip
import pickle

import numpy as np
import pytest

from perceiver_jax.data import multi_object, stored_scenes
from perceiver_jax.data.multi_object import PUBLISHED, MultiObject
from perceiver_jax.data.scenes import ATTRIBUTES
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError
from tests.data.conftest import example_message, multi_object_features, write_multi_object, write_tfrecords

SMALL = {"num_train": 3, "num_validation": 1, "num_test": 1}


def source_of(tmp_path, dataset="tetrominoes", counts=(3, 1, 2, 3, 2), **fields):
    scenes = write_multi_object(tmp_path / "set" / "a.tfrecords", dataset, counts)
    return MultiObject(path=str(tmp_path / "set"), dataset=dataset, **(SMALL | fields)), scenes


OTHERS = {"clevr_with_masks", "objects_room_empty_room"}


@pytest.mark.parametrize("dataset", sorted(set(PUBLISHED) - OTHERS))
def test_what_was_written_comes_back(tmp_path, dataset):
    source, scenes = source_of(tmp_path, dataset)
    published = PUBLISHED[dataset]
    most = published.entities - published.background
    for name, array in (batch := source.load("train", np.array([2, 0]), 0)).items():
        assert (array.shape[1:], array.dtype.name) == (source.spec.arrays[name].shape, source.spec.arrays[name].dtype)
    assert source.spec.arrays["attributes"].shape == (most, len(ATTRIBUTES))
    for row, scene in enumerate((scenes[2], scenes[0])):
        masks = scene["mask"].transpose(2, 0, 1, 3) if published.entities_last else scene["mask"]
        np.testing.assert_array_equal(batch["image"][row], np.broadcast_to(scene["image"], batch["image"].shape[1:]))
        for number, mask in enumerate(masks[published.background :, ..., 0], 1):
            np.testing.assert_array_equal(batch["objects"][row] == number, mask > 0)
        present = batch["attributes"][row, :, 0] > 0
        if "shape" in scene:
            np.testing.assert_array_equal(batch["attributes"][row, present, 1], scene["shape"][1:][present] - 1)
        if published.angle:
            angle = scene["orientation"][1:][present]
            np.testing.assert_allclose(batch["attributes"][row, present, 5], angle, rtol=1e-6)
    assert source.labels("train").tolist() == [3, 1, 2] and source.labels("test").tolist() == [3]
    assert source.splits == stored_scenes.SPLITS and source.num_examples("validation") == 1
    again = pickle.loads(pickle.dumps(source))
    assert isinstance(source, Source) and again == source and "_kept" not in again.__dict__


def test_the_empty_room_has_no_objects(tmp_path):
    source, scenes = source_of(tmp_path, "objects_room_empty_room", (0, 0, 0, 0, 0))
    batch = source.load("train", np.arange(3), None)
    np.testing.assert_array_equal(batch["image"][1], scenes[1]["image"])
    assert not batch["objects"].any() and batch["attributes"].shape == (3, 1, len(ATTRIBUTES))
    assert not batch["attributes"].any() and source.labels("test").tolist() == [0]


def test_clevr6_is_cropped_resized_and_filtered(tmp_path):
    """Of four records for training one has seven objects."""
    options = {"num_train": 4, "max_objects": 6, "image_size": 128}
    source, scenes = source_of(tmp_path, "clevr_with_masks", (2, 7, 6, 3, 7, 1, 2), **options)
    assert source.labels("train").tolist() == [2, 6, 3]
    assert source.labels("test").tolist() == [1] and source.labels("validation").tolist() == [2]
    shapes = {name: array.shape for name, array in source.spec.arrays.items()}
    columns = {"attributes": (6, len(ATTRIBUTES)), "properties": (6, 19)}
    assert shapes == {"image": (128, 128, 3), "objects": (128, 128)} | columns
    batch = source.load("train", np.array([0]), None)
    assert set(np.unique(batch["objects"])) == {0, 1, 2}
    masks = scenes[0]["mask"][1:3, 29:221, 64:256, 0] > 0
    for number, mask in enumerate(masks, 1):
        inside = batch["objects"][0] == number
        assert inside.sum() == pytest.approx(mask.sum() * (128 / 192) ** 2, rel=0.1)
        row, column = (np.mean(axis) / 128 for axis in np.nonzero(inside))
        assert (row, column) == pytest.approx([np.mean(axis) / 192 for axis in np.nonzero(mask)], abs=0.01)


def test_clevrs_properties_are_those_of_set_prediction(tmp_path):
    """Of whole frames: 3 coordinates, 2 sizes, 2 materials, 3 shapes, 8 colours, and whether it is an object."""
    options = {"num_train": 1, "num_test": 1, "num_validation": 0, "image_size": 128, "full_frame": True}
    source, scenes = source_of(tmp_path, "clevr_with_masks", (3, 1), **options)
    batch = source.load("train", np.array([0]), None)
    rows, scene = batch["properties"][0], scenes[0]
    np.testing.assert_array_equal(rows[:, -1], np.arange(10) < 3)
    assert not rows[3:].any()
    where = np.stack([scene[axis][1:4] for axis in "xyz"], 1)
    np.testing.assert_allclose(rows[:3, :3], (where + 3) / 6, rtol=1e-5)
    for name, start, width in (("size", 3, 2), ("material", 5, 2), ("shape", 7, 3), ("color", 10, 8)):
        np.testing.assert_array_equal(rows[:3, start : start + width], np.eye(width)[scene[name][1:4] - 1])
    assert sum(max(each.num_classes, 1) for each in source.spec.properties) == 18
    assert [each.scale for each in source.spec.properties[:3]] == [6.0] * 3
    row, column = (np.mean(axis) / 128 for axis in np.nonzero(batch["objects"][0] == 2))
    mask = np.nonzero(scene["mask"][2, ..., 0])
    assert (row, column) == pytest.approx([np.mean(mask[0]) / 240, np.mean(mask[1]) / 320], abs=0.01)
    np.testing.assert_allclose(batch["attributes"][0, 1, 2:4], (column, row), atol=0.01)


def test_a_class_that_there_is_not_names_the_record(tmp_path):
    scene = multi_object_features("clevr_with_masks", 0, 2)
    scene["color"][2] = 9
    write_tfrecords(tmp_path / "a.tfrecords", map(example_message, [scene]))
    source = MultiObject(path=str(tmp_path / "a.tfrecords"), num_train=1, num_validation=0, num_test=0)
    with pytest.raises(ConfigError, match="record 0: color: expected 1 to 8, got .*9"):
        source.num_examples("train")


@pytest.mark.parametrize("name", ["shape", "orientation"])
def test_a_number_that_is_none_names_the_record(tmp_path, name):
    scene = multi_object_features("multi_dsprites_colored_on_colored", 0, 2)
    scene[name][1] = np.nan
    write_tfrecords(tmp_path / "a.tfrecords", map(example_message, [scene]))
    sizes = {"num_train": 1, "num_validation": 0, "num_test": 0}
    source = MultiObject(path=str(tmp_path), dataset="multi_dsprites_colored_on_colored", **sizes)
    with pytest.raises(ConfigError, match=f"record 0: {name}: expected -1000 to 1000, got .*nan"):
        source.num_examples("train")


def test_the_set_is_read_once_and_mapped(tmp_path, monkeypatch):
    source, _ = source_of(tmp_path)
    first = source.load("train", np.arange(3), None)
    assert isinstance(source._read()["train"]["image"], np.memmap)
    monkeypatch.setattr(multi_object, "records", None)
    again = MultiObject(path=source.path, dataset="tetrominoes", **SMALL).load("train", np.arange(3), 5)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_another_use_of_the_file_is_another_set(tmp_path):
    source, _ = source_of(tmp_path)
    assert source.num_examples("train") == 3
    fewer = dataclasses.replace(source, max_objects=2)
    with pytest.raises(ConfigError, match="ends after 5 records"):  # of the two behind those for training, one is left
        fewer.num_examples("train")
    assert dataclasses.replace(fewer, num_validation=0).num_examples("train") == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"num_train": 5},
            "ends after 5 records, 5 of them for training: expected num_train=5 ",
        ),
        ({"num_train": 9}, "ends after 5 records"),
        ({"max_objects": 1, "num_train": 1}, "0 of them for training"),
        ({"dataset": "multi_dsprites_binarized"}, "record 0: image: expected 64 x 64 x 1 values, got 3,675 values"),
        ({"path": "nothing"}, "nothing: expected one .* none here. Fetch https://.*.tfrecords into nothing and run"),
        ({"path": "d/x.tfrecords"}, "Fetch https://.*/tetrominoes_train.tfrecords into d as x.tfrecords and run"),
        ({"path": "d/tetrominoes_train.tfrecords"}, "Fetch https://.*/tetrominoes_train.tfrecords into d and run"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, monkeypatch, fields, said):
    monkeypatch.chdir(tmp_path)
    source, _ = source_of(tmp_path)
    wrong = MultiObject(**({"path": source.path, "dataset": "tetrominoes"} | SMALL | fields))
    with pytest.raises(ConfigError, match=said):
        wrong.num_examples("train")


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("mask", np.zeros((5, 35, 35, 1), np.uint8), "mask: expected 4 x 35 x 35 values, got 6,125 values"),
        ("visibility", np.ones(6, np.float32), "visibility: expected 4 values, got 6 values"),
    ],
)
def test_more_entities_than_stated_name_the_record(tmp_path, name, array, said):
    scenes = [multi_object_features("tetrominoes", seed, 2) for seed in range(5)]
    scenes[2][name] = array
    write_tfrecords(tmp_path / "a.tfrecords", map(example_message, scenes))
    source = MultiObject(path=str(tmp_path / "a.tfrecords"), dataset="tetrominoes", **SMALL)
    with pytest.raises(ConfigError, match=f"a.tfrecords: record 2: {said}"):
        source.num_examples("train")


def test_damage_behind_the_last_scene_is_seen(tmp_path):
    """What is used may be damaged where only the checksum at the end shows it."""
    source, _ = source_of(tmp_path, num_train=1)
    file = tmp_path / "set" / "a.tfrecords"
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content)[:-8] + bytes(8))
    with pytest.raises(ConfigError, match="record 5: cannot be unpacked .*CRC"):
        source.num_examples("train")
    assert not list(tmp_path.glob("set.prepared/*/train"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "clevr"}, "dataset='clevr': expected one of clevr_with_masks"),
        ({"max_objects": 0}, "max_objects=0: expected at least 1"),
        ({"num_test": -1}, "num_test=-1: expected at least 0"),
        ({"image_size": 0}, "image_size=0: expected at least 1"),
    ],
)
def test_impossible_values_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        MultiObject(path="x", **fields)
