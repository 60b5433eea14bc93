# SPDX-License-Identifier: Apache-2.0
"""Time series: splits, standardisation by the training split, missing values, augmentation, files that do not fit."""

import logging
import pickle

import numpy as np
import pytest

from perceiver_jax.data.timeseries import TimeSeries
from perceiver_jax.errors import ConfigError

CLASSES = ("1", "2", "10")


def case(random, label, length, channels=2, scale=5.0):
    values = 3 + scale * random.normal(size=(channels, length))
    return ":".join(",".join(f"{x:.4f}" for x in channel) for channel in values) + f":{label}"


def write(folder, part, lines, channels=2, classes=CLASSES):
    head = f"@timeStamps false\n@missing true\n@dimensions {channels}\n@classLabel true {' '.join(classes)}\n@data\n"
    folder.mkdir(exist_ok=True)
    (folder / f"Vowels_{part}.ts").write_text(head + "\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("TRAIN", 60), ("TEST", 12)):
        write(tmp_path / "Vowels", part, [case(random, CLASSES[i % 3], 7 + i % 20) for i in range(count)])
    return tmp_path / "Vowels"


def test_splits_and_labels_from_names(folder):
    source = TimeSeries(path=str(folder))
    assert source.splits == ("train", "validation", "test")
    assert [source.num_examples(split) for split in source.splits] == [54, 6, 12]
    assert np.bincount(source.labels("validation")).tolist() == [2, 2, 2]
    assert source.spec.class_names == CLASSES and source.labels("test")[:4].tolist() == [0, 1, 2, 0]
    assert source.spec.max_length == 26 and source.spec.arrays["sequence"].shape == (26, 2)
    assert TimeSeries(path=str(folder / "Vowels_TRAIN.ts")).spec == source.spec


def test_channels_are_standardised_by_the_training_split_alone(folder):
    source = TimeSeries(path=str(folder))
    batch = source.load("train", np.arange(54), None)
    values = batch["sequence"][batch["mask"]]
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
    assert not batch["sequence"][~batch["mask"]].any()
    np.testing.assert_array_equal(batch["mask"].sum(1), source.lengths("train"))
    assert abs(source.spec.mean[0] - 3) < 1 and abs(source.spec.std[0] - 5) < 1


def test_missing_values_are_interpolated(folder):
    write(folder, "TEST", ["1,?,3,4:?,?,?,?:1", "1,2,2,?:?,5,5,5:2"])
    source = TimeSeries(path=str(folder))
    mean, std = np.array(source.spec.mean), np.array(source.spec.std)
    values = source.load("test", np.arange(2), None)["sequence"] * std + mean
    np.testing.assert_allclose(values[0], [[1, mean[1]], [2, mean[1]], [3, mean[1]], [4, mean[1]]], atol=1e-4)
    np.testing.assert_allclose(values[1], [[1, 5], [2, 5], [2, 5], [2, 5]], atol=1e-4)


def test_a_small_set_has_a_validation_example(folder):
    random = np.random.default_rng(1)
    write(folder, "TRAIN", [case(random, CLASSES[i % 3], 9) for i in range(9)])
    assert TimeSeries(path=str(folder)).num_examples("validation") == 3
    assert TimeSeries(path=str(folder), validation_fraction=0.0).splits == ("train", "test")


def test_augmentation_follows_epoch_and_id_and_only_in_training(folder):
    source = TimeSeries(path=str(folder), jitter=0.1, scale=0.2, dropped_steps=0.3, seed=1)
    ids = np.arange(20)
    first, again = source.load("train", ids, 0), source.load("train", ids[::-1], 0)
    for k in range(20):
        length = source.lengths("train")[k]
        for name in ("sequence", "mask"):
            np.testing.assert_array_equal(first[name][k, :length], again[name][19 - k, :length])
    alone = source.load("train", ids[3:4], 0)["sequence"]
    np.testing.assert_array_equal(alone[0], first["sequence"][3, : alone.shape[1]])
    assert not np.array_equal(source.load("train", ids, 1)["sequence"], first["sequence"])
    plain = TimeSeries(path=str(folder)).load("train", ids, 0)
    kept = first["mask"].sum() / plain["mask"].sum()
    assert 0.6 < kept < 0.8 and first["mask"].any(1).all() and not (first["mask"] & ~plain["mask"]).any()
    np.testing.assert_array_equal(source.load("train", ids, None)["sequence"], plain["sequence"])


def test_longer_ones_are_cut_and_it_is_said_once(folder, caplog):
    source = TimeSeries(path=str(folder), max_length=20, num_buckets=3)
    logging.getLogger("perceiver_jax").propagate = True
    with caplog.at_level(logging.WARNING):
        batch = source.load("train", np.arange(54), None)
        source.load("test", np.arange(3), None)
    assert batch["sequence"].shape == (54, 20, 2) and source.padded_lengths[-1] == 20
    said = [record.getMessage() for record in caplog.records if "are cut" in record.getMessage()]
    assert said == ["18 of 72 sequences are longer than max_length=20 (the longest: 26) and are cut"]


def test_pickles_without_its_arrays(folder):
    source = TimeSeries(path=str(folder))
    size = len(pickle.dumps(source))
    source.load("train", np.arange(3), None)
    assert len(pickle.dumps(source)) == size


@pytest.mark.parametrize(
    ("lines", "channels", "message"),
    [
        (["1,2:3,4:3"], 2, "class '3' is not in the training file: expected 1, 10, 2"),
        (["1,2:1"], 1, "has 1 channels, the training file 2"),
    ],
)
def test_a_test_file_that_does_not_fit(folder, lines, channels, message):
    write(folder, "TEST", lines, channels, (*CLASSES, "3"))
    with pytest.raises(ConfigError, match=message):
        TimeSeries(path=str(folder)).num_examples("train")


def test_nothing_there_says_what_to_fetch(tmp_path):
    with pytest.raises(ConfigError, match=r"no such folder. Fetch a set from https://www.timeseries.*Vowels.zip"):
        TimeSeries(path=str(tmp_path / "Vowels")).num_examples("train")


@pytest.mark.parametrize(
    "fields",
    [{"validation_fraction": 1.0}, {"jitter": -1.0}, {"scale": 1.0}, {"dropped_steps": 1.0}, {"max_length": 0}],
)
def test_impossible_fields(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        TimeSeries(path="x", **fields)
