# SPDX-License-Identifier: Apache-2.0
"""Every form becomes the same kind of set, through TFDS and back, and a broken file is named."""

import pickle
import resource
import shutil

import numpy as np
import pytest

from perceiver_jax.data.layouts import read_layout
from perceiver_jax.data.modelnet import ModelNet
from perceiver_jax.data.prepared_clouds import sample
from perceiver_jax.errors import ConfigError


def source(folder, **options):
    return ModelNet(path=str(folder), **{"num_points": 20, "download": False, **options})


def content(source):
    """Clouds and labels of all splits."""
    return {split: source.load(split, np.arange(source.num_examples(split)), None) for split in source.splits}


@pytest.mark.parametrize("form", ["text", "off", "pcd", "ply"])
def test_each_form_is_prepared_once_and_read_back(tmp_path, write_set, form):
    folder = write_set(form, tmp_path / "set")
    first = source(folder, validation_fraction=0.3)
    assert first.spec.class_names == ("chair", "desk", "lamp") and first.splits == ("train", "validation", "test")
    assert [np.bincount(first.labels(split)).tolist() for split in first.splits] == [[3] * 3, [1] * 3, [1] * 3]
    (prepared,) = (p for p in (tmp_path / "set.prepared").iterdir() if p.name != ".lock")
    assert prepared.name.startswith(f"{form}-") and any(prepared.rglob("*.array_record*"))
    before = prepared.stat().st_mtime_ns
    second = content(pickle.loads(pickle.dumps(first)))
    assert prepared.stat().st_mtime_ns == before
    for split, arrays in content(first).items():
        np.testing.assert_array_equal(arrays["points"], second[split]["points"])
        assert arrays["points"].shape[1:] == (20, 3) and arrays["points"].dtype == np.float32
    layout = read_layout(folder, form)
    if "test" in layout.files:
        expected = [sample(layout, name, 20, False, 0) for name, _ in layout.files["test"]]
        np.testing.assert_array_equal(second["test"]["points"], expected)


def test_another_set_never_answers(tmp_path, write_set):
    folder = write_set("text", tmp_path / "set")
    first = content(source(folder))["test"]["points"]
    shutil.rmtree(folder / "lamp")
    file = folder / "chair" / "chair_0005.txt"
    file.write_text("1,2,3,0,0,1\n" * 20)
    write_set("text", tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "lamp", folder / "lamp")
    again = content(source(folder))["test"]["points"]
    np.testing.assert_array_equal(again[0], np.tile(np.float32([1, 2, 3]), (20, 1)))
    np.testing.assert_array_equal(again[1], first[1])


def test_meshes_are_sampled_over_their_surface_by_a_seed_each(tmp_path, write_set):
    folder = write_set("off", tmp_path / "set")
    layout = read_layout(folder, "off")
    name = "desk/train/desk_0003.off"  # a box of 1 x 2 x 3
    points = sample(layout, name, 4000, True, 0)
    coordinates, normals = points[:, :3], points[:, 3:]
    sides = np.isclose(coordinates, 0, atol=1e-5) | np.isclose(coordinates, [1, 2, 3], atol=1e-5)
    assert sides.any(1).all() and (coordinates >= -1e-5).all() and (coordinates <= np.float32([1, 2, 3]) + 1e-5).all()
    areas = np.abs(normals).round().mean(0)  # the share of the sides across x, y and z
    np.testing.assert_allclose(areas, np.array([6, 3, 2]) / 11, atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(sample(layout, name, 4000, False, 0), coordinates)
    assert not np.array_equal(sample(layout, name, 4000, False, 1), coordinates)
    box = sample(layout, "desk/train/desk_0001.off", 4000, False, 0) * np.float32([1, 1, 3])
    assert not np.allclose(box, coordinates, atol=1e-3)


def test_normals_are_features(tmp_path, write_set):
    folder = write_set("text", tmp_path / "set")
    with_normals = source(folder, normals=True, rotation=180.0)
    assert with_normals.spec.arrays["points"].shape == (20, 6)
    row = np.float32((folder / "chair" / "chair_0005.txt").read_text().splitlines()[3].split(","))
    np.testing.assert_array_equal(content(with_normals)["test"]["points"][0, 3], row)
    resampled = source(folder, normals=True, num_points=5, stored_points=20, resample=True)
    assert resampled.load("train", np.arange(3), 1)["points"].shape == (3, 5, 6)
    with pytest.raises(ConfigError, match="chair_0000.ply: record 0 has no normal_x, normal_y, normal_z"):
        content(source(write_set("ply", tmp_path / "ply"), normals=True))


def test_a_subset_of_larger_clouds_and_too_small_ones(tmp_path, write_set):
    folder = write_set("pcd", tmp_path / "set")
    layout = read_layout(folder, "pcd")
    whole, part = (sample(layout, "lamp/lamp_0002.pcd", n, False, 0) for n in (20, 8))
    assert {p.tobytes() for p in part} < {p.tobytes() for p in whole} and len({p.tobytes() for p in part}) == 8
    with pytest.raises(
        ConfigError, match=r"chair_0000.pcd: has 20 points: expected at least 21.*num_points=20 or less"
    ):
        content(source(folder, num_points=21))
    with pytest.raises(ConfigError, match="num_points=20: .* have 8 points. .*or raise stored_points=8"):
        content(source(folder, stored_points=8))


@pytest.mark.parametrize(
    ("form", "file", "text", "message"),
    [
        ("text", "chair/chair_0002.txt", "1,2,3,4,5,6\n1,2,x,4,5,6\n", "chair_0002.txt: line 2: expected finite"),
        ("off", "desk/train/desk_0002.off", "OFF8 12 0\n1 2 3\n", "desk_0002.off: line 2 is the last"),
        ("off", "desk/test/desk_0005.off", "OFF\n3 1 0\n" + "1 1 1\n" * 3 + "3 0 1 2\n", "its 1 faces have no area"),
        ("pcd", "lamp/lamp_0001.pcd", "x", "lamp_0001.pcd: line 1: no .pcd header"),
        ("ply", "lamp/lamp_0001.ply", "ply\nend_header\n", "lamp_0001.ply: lines 1..2: not a PLY header"),
    ],
)
def test_a_broken_file_is_named_and_mending_it_is_enough(tmp_path, write_set, form, file, text, message):
    folder = write_set(form, tmp_path / "set")
    good = (folder / file).read_bytes()
    (folder / file).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        content(source(folder))
    assert "\n" not in str(caught.value)
    (folder / file).write_bytes(good)
    assert sum(map(len, (part["label"] for part in content(source(folder)).values()))) == 15


def test_a_file_that_cannot_be_written_is_told(tmp_path, write_set):
    folder = write_set("text", tmp_path / "set")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="preparing into .*set.prepared failed .File too large"):
            content(source(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "set.prepared").iterdir()] == [".lock"]


def test_a_damaged_prepared_set_is_named(tmp_path, write_set):
    folder = write_set("ply", tmp_path / "set")
    content(source(folder))
    (record,) = (tmp_path / "set.prepared").rglob("*.array_record*")
    record.unlink()
    with pytest.raises(ConfigError, match="the prepared set is damaged .* Delete it and run again"):
        content(source(folder))
