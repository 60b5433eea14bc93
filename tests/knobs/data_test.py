# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of each data set changes the examples, how they are stored, or what is said.

A new data set, or a new field, fails until it has a row here.
"""

import hashlib

import numpy as np
import pytest
from PIL import Image

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.source import VariableLength
from perceiver_jax.errors import ConfigError
from tests.data import conftest as sets

SIZES = {"num_train": 24, "num_validation": 8, "num_test": 8}
OTHER_SIZES = {"num_train": 25, "num_validation": 9, "num_test": 9}
FETCH = {"path": "none", "download": True, "address": "ftp://a.org/a.zip"}  # nothing there, and no http address
FETCH_CHANGES = {"download": False, "address": "ftp://b.org/b.zip"}
SPLITTING = {"validation_fraction": 0.3, "test_fraction": 0.3, "split_seed": 1}
CLOUDS = {"scale": (0.5, 1.5), "rotation": 20.0}
CLOUD_CHANGES = {
    "normalize_before": "center",
    "scale": (0.6, 1.5),
    "scale_per_point": True,
    "scale_per_axis": True,
    "rotation": 40.0,
    "up_axis": "z",
    "translation": 0.1,
    "jitter": 0.1,
    "normalize": "sphere",
}
IMAGES = {"rand_augment_layers": 2}
IMAGE_CHANGES = {
    "min_crop_area": 0.3,
    "central_crop": 0.5,
    "crop_padding": 2,
    "flip": True,
    "rand_augment_layers": 3,
    "rand_augment_magnitude": 9.0,
    "image_size": 9,
    "zoom": 0.3,
    "permutation_seed": 1,
    "permutation_file": "order.npy",
}
SCENES = {"size": 16, "min_objects": 1, "max_objects": 2, **SIZES}
SCENE_CHANGES = {
    "size": 17,
    "min_objects": 2,
    "max_objects": 3,
    "min_radius": 0.15,
    "max_radius": 0.3,
    "num_colours": 3,
    "num_sizes": 3,
    "set_seed": 1,
    **OTHER_SIZES,
}
SEQUENCES = {"num_buckets": 2, "max_length": 12}
DATA = {  # name: [(values, another value of each field), ...]; paths are below the folder of `files`
    "solids": [
        (
            {"num_points": 16, "normalize": "none", **SIZES, **CLOUDS},
            {"num_points": 17, "set_seed": 1, "noise": 0.5, "variation": 0.1, **OTHER_SIZES, **CLOUD_CHANGES},
        )
    ],
    "modelnet": [
        (
            {"path": "clouds", "num_points": 6, "resample": True, **CLOUDS},
            {
                "path": "none",
                "num_points": 7,
                "num_evaluation_points": 5,
                "resample": False,
                "normals": True,
                "validation_fraction": 0.3,
                "split_seed": 1,
                **CLOUD_CHANGES,
            },
        ),
        (FETCH, FETCH_CHANGES),
        (
            {"path": "shapes", "num_points": 6, "resample": True, "stored_points": 8},
            {"sample_seed": 1, "stored_points": 9, "test_fraction": 0.4, "prepared_path": "elsewhere"},
        ),
    ],
    "patterns": [
        (
            {"min_length": 8, "longest": 16, "num_channels": 2, **SIZES, **SEQUENCES},
            {
                **{"min_length": 9, "longest": 14, "num_channels": 3, "num_classes": 4, "noise": 0.1, "set_seed": 1},
                **{"num_buckets": 3, "max_length": 10, **OTHER_SIZES},
            },
        )
    ],
    "babble": [
        (
            {**SIZES, "num_buckets": 2},
            {"num_buckets": 3, "max_length": 10, "min_words": 5, "max_words": 17, "set_seed": 1, **OTHER_SIZES},
        )
    ],
    "timeseries": [
        (
            {"path": "series", "num_buckets": 2},
            {
                **{"path": "none", "num_buckets": 1, "max_length": 2, "validation_fraction": 0.4, "split_seed": 1},
                **{"jitter": 0.1, "scale": 0.1, "dropped_steps": 0.5},
            },
        )
    ],
    "text": [
        (
            {"path": "lines", "num_buckets": 2},
            {"path": "none", "num_buckets": 1, "max_length": 5, "validation_fraction": 0.4, "split_seed": 1},
        ),
        ({"path": "books", "max_length": 8}, {"validation_fraction": 0.3, "test_fraction": 0.3}),
    ],
    "images": [
        (
            {"path": "images.npz", "test_fraction": 0.2, **IMAGES},
            {"path": "none", "mean": (1.0,), "std": (2.0,), **SPLITTING, **IMAGE_CHANGES},
        ),
        ({"path": "images.npz", "mean": (1.0,), "std": (1.0,)}, {"mean": (2.0,), "std": (2.0,)}),
        ({"path": "splits.npz"}, {"validation_is_test": True}),
        (FETCH, FETCH_CHANGES),
        ({"path": "folder", "bad_images": "skip"}, {"bad_images": "error", "prepared_path": "elsewhere"}),
        ({"path": "folder", "bad_images": "skip", "image_size": 6}, {"memory_gigabytes": 0.0}),
    ],
    "drawings": [
        ({"size": 12, **SIZES, **IMAGES}, {"size": 13, "set_seed": 1, "noise": 0.0} | OTHER_SIZES | IMAGE_CHANGES)
    ],
    "shapes": [(SCENES, SCENE_CHANGES)],
    "sprites": [(SCENES, {**SCENE_CHANGES, "variant": "binarized", "background": "black"})],
    "multi_object": [
        (
            {"path": "tetrominoes", "dataset": "tetrominoes", "num_train": 3, "num_validation": 2, "num_test": 2},
            {
                **{"path": "none", "dataset": "objects_room", "max_objects": 2, "image_size": 8},
                **{"num_train": 4, "num_validation": 1, "num_test": 1, "prepared_path": "elsewhere"},
            },
        ),
        (
            {"path": "clevr", "image_size": 24, "num_train": 1, "num_validation": 1, "num_test": 0},
            {"full_frame": True},
        ),
    ],
    "own_scenes": [
        (
            {"path": "scenes", "max_objects": 3},
            {
                **{"path": "none", "max_objects": 4, "background_masks": 2, "crop": (2, 14, 1, 13), "image_size": 8},
                **SPLITTING,
                "prepared_path": "elsewhere",
            },
        )
    ],
    "codes": [
        (
            {"path": "codes", "key": "one", "order": "sorted"},
            {"path": "none", "key": "other", "order": "permuted"},
        )
    ],
    "own": [({"factory": "own.py:images", **IMAGES}, {"factory": "own.py:others", **SPLITTING, **IMAGE_CHANGES})],
    "own_sequences": [
        (
            {"factory": "own.py:sequences", "max_length": 12},
            {"factory": "own.py:images", "max_length": 10, "num_lengths": 2, **SPLITTING},
        )
    ],
}
OWN = """
import numpy as np

def images(split, shift=0):
    if split == "train":
        grid = np.arange(144).reshape(12, 12, 1)
        return [{"input": (grid * (i + 1) + shift).astype(np.uint8), "label": i % 2} for i in range(24)]

def others(split):
    return images(split, 1)

def sequences(split):
    if split == "train":
        return [{"input": np.full((6 + i % 8, 2), i), "label": i % 2} for i in range(24)]
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small set of every form."""
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    sets.write_modelnet(folder / "clouds")
    sets.write_cloud_set(folder / "shapes", "pcd")
    for split in ("TRAIN", "TEST"):
        (folder / "series").mkdir(exist_ok=True)
        values = "\n".join(f"{k},2,3,4,5,6:4,5,{k},1,2,3:a\n1,2:{k},4:b\n{k},2:{k},4:b" for k in range(12))
        (folder / "series" / f"X_{split}.ts").write_text(f"@timeStamps false\n@classLabel true a b\n@data\n{values}\n")
    for name in ("lines", "books"):
        (folder / name).mkdir()
    lines = [f"{'ab'[k % 2]}\tsome text {'x' * k}\n" for k in range(24)]
    (folder / "lines" / "train.tsv").write_text("".join(lines))
    (folder / "lines" / "test.tsv").write_text("".join(lines[:4]))
    for name in "ab":
        (folder / "books" / f"{name}.txt").write_text("".join(lines))
    images, labels = random.integers(0, 256, (24, 12, 12, 1)).astype(np.uint8), np.arange(24) % 2
    np.savez(folder / "images.npz", train_images=images, train_labels=labels)
    parts = {"train": slice(0, 12), "validation": slice(12, 18), "test": slice(18, 24)}
    arrays = {f"{part}_images": images[rows] for part, rows in parts.items()}
    np.savez(folder / "splits.npz", **arrays, **{f"{part}_labels": labels[rows] for part, rows in parts.items()})
    for i, image in enumerate(images):
        (folder / "folder" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / "folder" / "ab"[i % 2] / f"{i:02}.png")
    (folder / "folder" / "a" / "20.png").write_bytes(b"no image")
    sets.write_multi_object(folder / "tetrominoes" / "a.tfrecords", "tetrominoes", (3, 1, 2, 3, 2, 1, 2))
    sets.write_multi_object(folder / "clevr" / "a.tfrecords", "clevr_with_masks", (3, 1))
    sets.write_scene_images(folder / "scenes", "planes", 12)
    (folder / "codes").mkdir()
    for name in ("one", "other"):
        numbers = {split: random.integers(0, 9, (8, 3, 2)).astype(np.uint16) for split in ("train", "test")}
        np.savez(folder / "codes" / f"{name}.npz", **numbers)
    np.save(folder / "order.npy", np.arange(144)[::-1])
    (folder / "own.py").write_text(OWN)
    return folder


def seen(name, values, folder):
    """All that a source gives and where it is stored, or what is wrong with it."""
    placed = {key: f"{folder}/{value}" for key, value in values.items() if key in PLACES and value}
    try:
        source = registry.build("data", to_dict(section("data", name, **{**values, **placed})), seed=0)
        said = [str(source.spec), str(source.splits)]
        if isinstance(source, VariableLength):
            said += [str(source.padded_lengths), *(str(source.lengths(split)) for split in source.splits)]
        for split in source.splits:
            ids = np.arange(source.num_examples(split))
            said.append(str(source.labels(split)))
            for epoch in (None, 0):
                batch = source.load(split, ids, epoch)
                said += [
                    f"{key} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}" for key, array in batch.items()
                ]
        said.append(stored(source, folder))
    except ConfigError as error:
        return str(error)
    return "\n".join(said)


PLACES = ("path", "prepared_path", "factory", "permutation_file")


def stored(source, folder):
    """Where its examples lie after they were read: in which folder and, of images, in memory or not."""
    kind = type(getattr(source, "_kept", (None, {}))[1].get("train")).__name__ if hasattr(source, "bad_images") else ""
    return f"{kind} {(folder / 'elsewhere').exists() and getattr(source, 'prepared_path', '')}"


CASES = [(name, index) for name, groups in DATA.items() for index in range(len(groups))]


@pytest.mark.parametrize(("name", "index"), CASES)
def test_each_field(name, index, files):
    values, changes = DATA[name][index]
    plain = seen(name, values, files)
    assert seen(name, values, files) == plain
    assert [field for field in changes if seen(name, {**values, field: changes[field]}, files) == plain] == []


def test_each_field_has_a_row():
    assert set(DATA) == set(registry.PARTS["data"])
    rows = {name: {field for _, changes in groups for field in changes} for name, groups in DATA.items()}
    fields = {name: set(registry.find("data", name).parameters()) for name in DATA}
    assert rows == fields


def test_the_seed_of_the_run_reaches_what_is_augmented(files):
    for name, values in (("drawings", {**SIZES, **IMAGES}), ("solids", {**SIZES, **CLOUDS, "num_points": 8})):
        one, other = (registry.build("data", to_dict(section("data", name, **values)), seed=seed) for seed in (0, 1))
        ids = np.arange(24)
        batches = [source.load("train", ids, 0) for source in (one, other)]
        assert any((batches[0][key] != batches[1][key]).any() for key in batches[0])
