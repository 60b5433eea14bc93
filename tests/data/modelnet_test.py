# SPDX-License-Identifier: Apache-2.0
"""ModelNet: the official layout is read as it is, and each thing that can be wrong with it is named."""

import os
import pickle
import shutil

import h5py
import numpy as np
import pytest

from perceiver_jax.data.modelnet import ModelNet
from perceiver_jax.errors import ConfigError


@pytest.fixture
def folder(modelnet_folder):
    return modelnet_folder / "modelnet40_ply_hdf5_2048"


def read(path, **options):
    source = ModelNet(path=str(path), **{"num_points": 10, "download": False, **options})
    assert source.spec
    return source


def stored(folder, *names):
    parts = []
    for name in names:
        with h5py.File(folder / name) as content:
            parts.append((content["data"][()], content["label"][()][:, 0]))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def rewrite(file, **arrays):
    """The file again with other arrays; None leaves one out."""
    with h5py.File(file, "a") as content:
        for name, array in arrays.items():
            del content[name]
            if array is not None:
                content[name] = array


def test_reads_the_official_layout(folder):
    source = read(folder.parent)
    assert source.spec.class_names == ("chair", "desk", "lamp")
    assert source.spec.arrays["points"].shape == (10, 3)
    points, label = stored(folder, "ply_data_test0.h5")
    test = source.load("test", np.arange(12), None)
    np.testing.assert_array_equal(test["points"], points)
    np.testing.assert_array_equal(test["label"], label)


def test_train_and_validation_share_out_the_training_files(folder):
    source = read(folder, validation_fraction=0.2)
    assert [source.num_examples(split) for split in source.splits] == [24, 6, 12]
    assert np.bincount(source.labels("validation")).tolist() == [2, 2, 2]
    points, label = stored(folder, "ply_data_train0.h5", "ply_data_train1.h5")
    parts = [source.load(split, np.arange(source.num_examples(split)), None) for split in ("train", "validation")]
    everyone = {
        (cloud.tobytes(), int(k)) for part in parts for cloud, k in zip(part["points"], part["label"], strict=True)
    }
    assert everyone == {(cloud.tobytes(), int(k)) for cloud, k in zip(points, label, strict=True)}


def test_validation_depends_on_split_seed_alone(folder):
    def validation(**options):
        return read(folder, validation_fraction=0.3, **options).load("validation", np.arange(9), None)["points"]

    np.testing.assert_array_equal(validation(), validation(seed=5))
    assert not np.array_equal(validation(), validation(split_seed=1))


def test_without_validation(folder):
    source = read(folder, validation_fraction=0.0)
    assert source.splits == ("train", "test") and source.num_examples("train") == 30


def test_fewer_points_than_stored(folder):
    points, _ = stored(folder, "ply_data_test0.h5")
    fixed, resampled = read(folder, num_points=4), read(folder, num_points=4, resample=True)
    ids = np.arange(12)
    np.testing.assert_array_equal(fixed.load("test", ids, None)["points"], points[:, :4])
    np.testing.assert_array_equal(resampled.load("test", ids, None)["points"], points[:, :4])
    first, second = (resampled.load("train", ids, epoch)["points"] for epoch in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(resampled.load("train", ids[[5, 2]], 0)["points"], first[[5, 2]])
    everything = read(folder).load("train", ids, 0)["points"]
    for cloud, subset in zip(everything, first, strict=True):
        rows = [np.flatnonzero((cloud == point).all(1)) for point in subset]
        assert len({int(row[0]) for row in rows}) == 4


def test_evaluation_may_use_more_points(folder):
    source = ModelNet(path=str(folder), num_points=4, num_evaluation_points=9, resample=True)
    assert source.spec.arrays["points"].shape == (4, 3) and source.spec.max_length == 9
    ids = np.arange(3)
    assert source.load("train", ids, 0)["points"].shape == (3, 4, 3)
    whole = ModelNet(path=str(folder), num_points=10).load("test", ids, None)["points"]
    np.testing.assert_array_equal(source.load("test", ids, None)["points"], whole[:, :9])
    with pytest.raises(ConfigError, match="num_evaluation_points=11: the clouds in .* have 10 points"):
        ModelNet(path=str(folder), num_points=4, num_evaluation_points=11).labels("train")


def test_augmentation_fields_are_applied(folder):
    points = read(folder, normalize_before="center", scale=(0.9, 1.1), normalize="cube").load("train", np.arange(5), 0)[
        "points"
    ]
    np.testing.assert_allclose(np.abs(points).max((1, 2)), 1, atol=1e-6)


def test_pickles_without_its_arrays(folder):
    source = read(folder)
    packed = pickle.dumps(source)
    assert len(packed) < 1000
    np.testing.assert_array_equal(
        pickle.loads(packed).load("train", np.arange(3), 0)["points"],
        source.load("train", np.arange(3), 0)["points"],
    )


def test_lists_may_be_missing_and_labels_flat(folder):
    for name in ("train_files.txt", "test_files.txt"):
        (folder / name).unlink()
    rewrite(folder / "ply_data_test0.h5", label=np.arange(12, dtype=np.int64) % 3)
    source = read(folder.parent)
    assert source.num_examples("train") + source.num_examples("validation") == 30
    assert source.labels("test").tolist() == [0, 1, 2] * 4 and source.labels("test").dtype == np.int32


def test_a_read_only_folder_is_enough_and_stays_untouched(folder):
    before = sorted(p.name for p in folder.parent.rglob("*"))
    folder.chmod(0o555)
    try:
        read(folder.parent)
        assert sorted(p.name for p in folder.parent.rglob("*")) == before
    finally:
        folder.chmod(0o755)


# What can be wrong. Each case breaks a good folder; the message has to name the file and the record.


def missing(folder):
    shutil.rmtree(folder.parent)


def empty(folder):
    shutil.rmtree(folder)


def two_sets(folder):
    shutil.copytree(folder, folder.parent / "other")


def truncated(folder):
    os.truncate(folder / "ply_data_train1.h5", 1500)


def foreign(folder):
    (folder / "ply_data_test0.h5").write_text("<html>404 Not Found</html>")


def listed_but_absent(folder):
    (folder / "ply_data_train1.h5").unlink()


def no_test_files(folder):
    (folder / "test_files.txt").unlink()
    (folder / "ply_data_test0.h5").unlink()


def no_array(folder):
    rewrite(folder / "ply_data_train0.h5", data=None)


def group_for_array(folder):
    rewrite(folder / "ply_data_train0.h5", label=None)
    with h5py.File(folder / "ply_data_train0.h5", "a") as content:
        content.create_group("label")


def wrong_axes(folder):
    rewrite(folder / "ply_data_train0.h5", data=np.zeros((20, 3, 10), np.float32))


def wrong_count(folder):
    rewrite(folder / "ply_data_train0.h5", label=np.zeros((19, 1), np.uint8))


def wrong_type(folder):
    rewrite(folder / "ply_data_train0.h5", label=np.zeros((20, 1), np.float32))


def other_size(folder):
    rewrite(folder / "ply_data_train1.h5", data=np.zeros((10, 11, 3), np.float32))


def wrong_label(folder):
    rewrite(folder / "ply_data_train1.h5", label=np.array([[0]] * 4 + [[3]] + [[1]] * 5, np.uint8))


def not_finite(folder):
    points, _ = stored(folder, "ply_data_test0.h5")
    points[7, 2, 1], points[9, 0, 0] = np.nan, np.inf
    rewrite(folder / "ply_data_test0.h5", data=points)


def opposite_infinities(folder):
    points, _ = stored(folder, "ply_data_test0.h5")
    points[2, 2, 1], points[2, 0, 0] = np.inf, -np.inf
    rewrite(folder / "ply_data_test0.h5", data=points)


def unseen_class(folder):
    for name, count in (("ply_data_train0.h5", 20), ("ply_data_train1.h5", 10)):
        rewrite(folder / name, label=(np.arange(count) % 2).astype(np.uint8)[:, None])


def no_names(folder):
    (folder / "shape_names.txt").unlink()


def double_names(folder):
    (folder / "shape_names.txt").write_text("chair\nchair\nlamp\n")


def no_clouds(folder):
    rewrite(folder / "ply_data_test0.h5", data=np.zeros((0, 10, 3), np.float32), label=np.zeros((0, 1), np.uint8))


def empty_list(folder):
    (folder / "test_files.txt").write_text("\n")


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            missing,
            r"data: no such folder. Fetch https://.*modelnet40_ply_hdf5_2048.zip , "
            r"unpack it into .*data and run: "
            r"python -m perceiver_jax.main --config=configs/modelnet40.py --config.data.path=.*data$",
        ),
        (empty, "data: no ModelNet files here. Fetch https://"),
        (two_sets, "several sets: modelnet40_ply_hdf5_2048, other"),
        (truncated, "ply_data_train1.h5: cannot be read as HDF5"),
        (foreign, "ply_data_test0.h5: cannot be read as HDF5"),
        (listed_but_absent, "train_files.txt: entry 2, ply_data_train1.h5, is not in"),
        (no_test_files, "neither test_files.txt nor ply_data_test"),
        (no_array, "ply_data_train0.h5: no data in it"),
        (group_for_array, "ply_data_train0.h5: no label in it"),
        (
            wrong_axes,
            r"ply_data_train0.h5: data is float32 \(20, 3, 10\): expected floats \(clouds, points, 3\)",
        ),
        (wrong_count, r"ply_data_train0.h5: label is uint8 \(19, 1\): expected integers \(20, 1\)"),
        (wrong_type, "ply_data_train0.h5: label is float32"),
        (other_size, "10 in ply_data_train0.h5, 11 in ply_data_train1.h5|11 in ply_data_train1.h5"),
        (
            wrong_label,
            r"ply_data_train1.h5: record 4 has label 3: expected 0..2, the 3 lines of shape_names.txt",
        ),
        (not_finite, r"ply_data_test0.h5: record 7 \(desk\) has coordinates that are not finite"),
        (opposite_infinities, r"ply_data_test0.h5: record 2 \(lamp\)"),
        (unseen_class, "classes that the training split lacks: lamp"),
        (no_names, "shape_names.txt is missing"),
        (double_names, "shape_names.txt: expected different class names, .* got 3, 2 different"),
        (no_clouds, "the test split is empty"),
        (empty_list, "the test split is empty"),
    ],
)
def test_each_damage_is_named(folder, damage, message):
    read(folder.parent)
    damage(folder)
    with pytest.raises(ConfigError, match=message) as caught:
        read(folder.parent)
    assert "\n" not in str(caught.value)


def test_more_points_than_stored(folder):
    with pytest.raises(
        ConfigError, match=r"num_points=2048: .* have 10 points. Set --config.data.num_points=10 or less"
    ):
        read(folder, num_points=2048)


def test_impossible_fields():
    with pytest.raises(ConfigError, match="validation_fraction=1.0"):
        ModelNet(path="x", validation_fraction=1.0)
    with pytest.raises(ConfigError, match="up_axis='w'"):
        ModelNet(path="x", up_axis="w")
