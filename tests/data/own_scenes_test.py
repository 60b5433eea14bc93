# SPDX-License-Identifier: Apache-2.0
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data.own_scenes import OwnScenes
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError
from tests.data.conftest import write_scene_images

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clevr_with_masks_sample"
CLEVR = (29, 221, 64, 256)


def source_of(path, **fields):
    return OwnScenes(path=str(path), **({"validation_fraction": 0.0, "test_fraction": 0.0} | fields))


def everything(source):
    return source.load("train", np.arange(source.num_examples("train")), None)


@pytest.mark.parametrize("named", ["planes", "numbers", "folders"])
def test_masks_in_every_way_of_naming(tmp_path, named):
    images, objects = write_scene_images(tmp_path / "set", named, 12)
    source = source_of(tmp_path / "set", max_objects=3)
    batch = everything(source)
    np.testing.assert_array_equal(batch["image"], images)
    np.testing.assert_array_equal(batch["objects"], objects)
    np.testing.assert_array_equal(source.labels("train"), objects.max((1, 2)))
    assert batch["attributes"].shape == (12, 3, 10) and isinstance(source, Source)
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_scene_of_background_alone_has_no_object(tmp_path):
    """Its only mask shows the background, as the first of the others do."""
    write_scene_images(tmp_path / "set", "planes", 3)
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "set" / "scene_0_mask_0.png")
    for number in (1, 2):
        (tmp_path / "set" / f"scene_0_mask_{number}.png").unlink()
    source = source_of(tmp_path / "set")
    assert source.labels("train").tolist() == [0, 2, 2] and not everything(source)["objects"][0].any()


def test_masks_of_objects_alone_keep_the_first(tmp_path):
    _, objects = write_scene_images(tmp_path / "set", "planes", 3)
    for number in range(3):
        (tmp_path / "set" / f"scene_{number}_mask_0.png").unlink()
    with pytest.raises(ConfigError, match=r"scene_0_mask_1.png: no background .*--config.data.background_masks=0"):
        source_of(tmp_path / "set").splits  # noqa: B018
    np.testing.assert_array_equal(everything(source_of(tmp_path / "set", background_masks=0))["objects"], objects)
    for number in range(3):
        (tmp_path / "set" / f"scene_{number}_mask_2.png").unlink()
    with pytest.raises(ConfigError, match=r"no image has more than 1 masks.*--config.data.background_masks=0"):
        source_of(tmp_path / "set").splits  # noqa: B018
    assert source_of(tmp_path / "set", background_masks=0).labels("train").tolist() == [1, 1, 1]


@pytest.mark.parametrize("form", ["numbers", "planes first", "planes last", "one channel", "floating point", "none"])
def test_arrays_in_every_form(tmp_path, form):
    images, objects = write_scene_images(tmp_path / "unused", "numbers", 3)
    planes = np.stack([objects == k for k in range(3)], 1)
    masks = {"numbers": objects.astype(np.int64), "planes first": planes[..., None] * np.uint8(255)}
    masks |= {"planes last": np.moveaxis(planes, 1, 3), "one channel": objects[..., None]}
    arrays = {"images": images / 255 if form == "floating point" else images}
    arrays |= {"masks": masks.get(form, objects)} if form != "none" else {}
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    batch = everything(source := source_of(tmp_path / "set.npz"))
    np.testing.assert_array_equal(batch["image"], images)
    if form == "none":
        assert list(source.spec.arrays) == ["image"] and not source.labels("train").any()
    else:
        np.testing.assert_array_equal(batch["objects"], objects)


def test_images_without_masks_are_split_and_resized(tmp_path):
    write_scene_images(tmp_path / "set", "none", 10)
    source = OwnScenes(path=str(tmp_path / "set"), image_size=8, validation_fraction=0.2, test_fraction=0.3)
    sizes = {split: source.num_examples(split) for split in source.splits}
    assert sizes == {"train": 5, "validation": 2, "test": 3}
    images = np.concatenate([source.load(split, np.arange(size), 0)["image"] for split, size in sizes.items()])
    assert images.shape == (10, 8, 8, 3) and len(np.unique(images.reshape(10, -1), axis=0)) == 10


def test_two_images_of_clevr(tmp_path):
    """The published images and masks, as single files."""
    if not REAL.is_dir():
        pytest.skip(f"NO REAL IMAGES: {REAL} is not there")
    prepared = {"prepared_path": str(tmp_path), "crop": CLEVR}
    whole, small = (everything(source_of(REAL, **prepared, image_size=size)) for size in (None, 128))
    assert whole["image"].shape == (2, 192, 192, 3) and small["image"].shape == (2, 128, 128, 3)
    nearest = np.floor((np.arange(128) + 0.5) * 1.5).astype(int)
    for index, count in enumerate((7, 8)):
        planes = [np.asarray(Image.open(REAL / f"CLEVR_mask_{index}_{k}.png")) > 0 for k in range(1, count + 1)]
        for number, plane in enumerate((plane[29:221, 64:256] for plane in planes), 1):
            np.testing.assert_array_equal(whole["objects"][index] == number, plane)
            np.testing.assert_array_equal(small["objects"][index] == number, plane[nearest][:, nearest])
            assert small["attributes"][index, number - 1, 0] == plane[nearest][:, nearest].any()
        image = np.asarray(Image.open(REAL / f"CLEVR_image_{index}.png"))
        np.testing.assert_array_equal(whole["image"][index], image[29:221, 64:256])
        assert not whole["attributes"][index, count:].any()


def remove_mask(folder):
    (folder / "scene_3_mask_1.png").unlink()
    (folder / "scene_3_mask_0.png").unlink()
    (folder / "scene_3_mask_2.png").unlink()


def small_mask(folder):
    Image.fromarray(np.zeros((16, 12), np.uint8)).save(folder / "scene_2_mask_1.png")


def stray_mask(folder):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "other_mask_1.png")


def other_size(folder):
    for file in folder.glob("scene_9*"):
        Image.open(file).resize((20, 20)).save(file)


@pytest.mark.parametrize(
    ("damage", "fields", "said"),
    [
        (lambda folder: None, {"max_objects": 1}, "scene_.*.png: 2 objects: expected at most max_objects=1"),
        (lambda folder: None, {"crop": (0, 40, 0, 4)}, r"16 x 16 pixels: too few for crop=\(0, 40, 0, 4\)"),
        (small_mask, {}, "scene_2_mask_1.png: 16 x 12 pixels: expected 16 x 16 as its image"),
        (stray_mask, {}, "other_mask_1.png: a mask of no image"),
        (remove_mask, {}, "scene_3.png: has no mask, as 1 of 12 images; others have"),
        (other_size, {}, "20 pixels a side: expected 16 as the first"),
        (lambda folder: (folder / "scene_1_mask_1.png").write_bytes(b"x"), {}, "scene_1_mask_1.png: cannot be read"),
        (lambda folder: (folder / "scene_1.png").write_bytes(b"x"), {}, "scene_1.png: cannot be read"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], {}, "set: no images"),
    ],
)
def test_what_does_not_fit_names_the_file(tmp_path, damage, fields, said):
    write_scene_images(tmp_path / "set", "planes", 12)
    damage(tmp_path / "set")
    with pytest.raises(ConfigError, match=said):
        source_of(tmp_path / "set", **fields).splits  # noqa: B018


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"masks": np.zeros((2, 4, 4), int)}, "expected an array images, got masks"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, r"images has shape \(2, 3, 4, 4\): expected"),
        ({"images": np.full((2, 4, 4), 7.0)}, "floating point beyond 0 to 1"),
        ({"images": np.zeros((2, 4, 4), int)}, "images has type int64: expected uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "masks": np.zeros((2, 4, 5), int)}, "expected masks of 4 x 4 pix"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "masks": np.zeros((3, 4, 4), int)}, "for 2 images"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "masks": np.zeros((2, 4, 4))}, "masks has type float64"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, said):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ConfigError, match=said):
        source_of(tmp_path / "set.npz").splits  # noqa: B018


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_objects": 255}, "max_objects=255: expected 1 to 254"),
        (
            {"test_fraction": -0.1},
            "test_fraction=-0.1, validation_fraction=0.0: expected 0 or more",
        ),
        ({"test_fraction": 0.5, "validation_fraction": 0.5}, "together less than 1"),
        ({"crop": (5, 4, 0, 9)}, "crop=.*: expected top < bottom"),
        ({"background_masks": -1}, "background_masks=-1"),
    ],
)
def test_impossible_values_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        source_of("x", **fields)
