# SPDX-License-Identifier: Apache-2.0
"""Each form is told by its layout, its files come in a fixed order, and what is missing is named."""

import pytest

from perceiver_jax.data.layouts import find_folder, form, read_layout
from perceiver_jax.errors import ConfigError


@pytest.mark.parametrize("name", ["text", "off", "pcd", "ply"])
def test_each_form_is_recognised_in_its_folder_and_the_one_above(tmp_path, write_set, name):
    folder = write_set(name, tmp_path / "data" / "set")
    assert form(folder) == name and form(folder.parent) == "" and form(tmp_path) == ""
    assert find_folder(folder, form) == find_folder(folder.parent, form) == folder
    layout = read_layout(folder, name)
    assert layout.class_names == ("chair", "desk", "lamp")
    split = name in ("text", "off")
    assert {part: len(files) for part, files in layout.files.items()} == (
        {"train": 12, "test": 3} if split else {"train": 15}
    )
    assert layout.files["train"] == tuple(sorted(layout.files["train"]))
    assert all(
        (folder / file).is_file() and file.startswith(layout.class_names[k]) for file, k in layout.files["train"]
    )


@pytest.mark.parametrize("whole", [True, False])
def test_splits_above_the_classes(tmp_path, write_set, whole):
    folder = tmp_path / "set"
    for part in ("train", "test") if whole else ("train",):
        write_set("ply", folder / part)
    (folder / "train" / "sofa").mkdir()
    (folder / "train" / "sofa" / "sofa_0001.ply").write_text("x")
    assert find_folder(tmp_path, form) == folder and form(folder) == "ply"
    if not whole:
        with pytest.raises(ConfigError, match="the test split is empty"):
            read_layout(folder, "ply")
        return
    layout = read_layout(folder, "ply")
    assert layout.class_names == ("chair", "desk", "lamp", "sofa")
    assert {part: len(files) for part, files in layout.files.items()} == {"train": 16, "test": 15}
    assert ("train/sofa/sofa_0001.ply", 3) in layout.files["train"]
    assert layout.files["test"][5] == ("test/desk/desk_0000.ply", 1)


def test_hdf5_is_recognised(modelnet_folder):
    assert form(modelnet_folder / "modelnet40_ply_hdf5_2048") == "hdf5"


def test_below_folders_that_hold_nothing_else(tmp_path, write_set):
    folder = write_set("off", tmp_path / "archive" / "data" / "set")
    assert find_folder(tmp_path, form) == folder
    (tmp_path / "archive" / "other").mkdir()
    assert find_folder(tmp_path, form) is None


def test_nothing_and_several(tmp_path, write_set):
    assert find_folder(tmp_path, form) is None and find_folder(tmp_path / "none", form) is None
    write_set("pcd", tmp_path / "a"), write_set("ply", tmp_path / "b")
    with pytest.raises(ConfigError, match="holds several sets: a, b. Set the path to one of them"):
        find_folder(tmp_path, form)


def test_modelnet10_lists_and_names_with_underscores(tmp_path):
    folder = tmp_path / "set"
    for kind in ("night_stand", "sofa"):
        (folder / kind).mkdir(parents=True)
        for number in (1, 2):
            (folder / kind / f"{kind}_000{number}.txt").write_text("1,2,3,4,5,6\n")
    (folder / "modelnet10_shape_names.txt").write_text("night_stand\nsofa\n")
    (folder / "modelnet10_train.txt").write_text("night_stand_0001\r\nsofa_0001\n\n")
    (folder / "modelnet10_test.txt").write_text("night_stand_0002\n")
    layout = read_layout(folder, form(folder))
    assert layout.files["test"] == (("night_stand/night_stand_0002.txt", 0),)
    assert layout.files["train"][1] == ("sofa/sofa_0001.txt", 1)


def test_litter_of_archives_is_left_out(tmp_path, write_set):
    folder = write_set("pcd", tmp_path / "data" / "set")
    (folder / "chair" / "._chair_0000.pcd").write_text("x")
    write_set("pcd", tmp_path / "data" / "__MACOSX")
    assert find_folder(tmp_path / "data", form) == folder
    assert len(read_layout(folder, "pcd").files["train"]) == 15


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "modelnet40_train.txt").unlink(), "modelnet40_train.txt is missing"),
        (lambda f: (f / "chair" / "chair_0002.txt").unlink(), "train.txt: line 2: chair/chair_0002.txt is not in"),
        (lambda f: (f / "modelnet40_test.txt").write_text("chair_0001\nbed_0001\n"), "test.txt: line 2: 'bed_0001' is"),
        (lambda f: (f / "modelnet40_test.txt").write_text("\n"), "the test split is empty"),
        (lambda f: (f / "modelnet40_train.txt").write_text("chair_0001\n"), "the training split lacks: desk, lamp"),
        (lambda f: (f / "modelnet40_shape_names.txt").write_text("chair\nchair\n"), "expected different class names"),
        (lambda f: (f / "modelnet40_shape_names.txt").write_text("chair\n"), "one class, chair|'desk_0001' is of no"),
    ],
)
def test_damaged_lists_are_named(tmp_path, write_set, damage, message):
    folder = write_set("text", tmp_path / "set")
    damage(folder)
    with pytest.raises(ConfigError, match=message):
        read_layout(folder, "text")


def test_one_class_is_no_set(tmp_path, write_set):
    folder = write_set("ply", tmp_path / "set")
    for kind in ("desk", "lamp"):
        (folder / kind).rename(tmp_path / kind)
    with pytest.raises(ConfigError, match="one class, chair: expected a folder for each of several"):
        read_layout(folder, "ply")
