# SPDX-License-Identifier: Apache-2.0
"""Files of every kind become arrays, and arrays what a model takes."""

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data import inputs
from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.multi_object import MultiObject
from perceiver_jax.data.own_scenes import OwnScenes
from perceiver_jax.data.patterns import Patterns
from perceiver_jax.data.scene_masks import fitted
from perceiver_jax.data.scenes import Shapes
from perceiver_jax.data.solids import Solids
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.text import Text, encode
from perceiver_jax.errors import ConfigError

NAMES = ("a", "b")
LABEL = {"label": ArraySpec((), "int32")}


def spec_of(name, *shape, dtype="float32", mask=False):
    arrays = {name: ArraySpec(shape, dtype)} | ({"mask": ArraySpec(shape[:1], "bool")} if mask else {})
    return Spec(arrays | LABEL, NAMES, max_length=shape[0] if mask else None)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (spec_of("points", 64, 3), "points"),
        (spec_of("tokens", 9, dtype="int32", mask=True), "tokens"),
        (spec_of("input", 9, 9, 1), "image"),
        (Spec({"image": ArraySpec((9, 9, 3), "uint8"), "objects": ArraySpec((9, 9), "uint8")}), "scene"),
        (spec_of("input", 9, 2, mask=True), "sequence"),
        (spec_of("input", 9, 2), "array"),
    ],
)
def test_own_data_are_what_they_look_like(spec, kind):
    assert inputs.kind(spec) == kind


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_file_has_the_channels_the_model_takes(tmp_path, channels):
    picture = Image.new("RGB", (40, 20), (250, 10, 10))
    picture.save(tmp_path / "a.PNG")
    (found,) = inputs.read(tmp_path / "a.PNG", spec_of("image", 8, 8, channels, dtype="uint8")).values()
    assert (found.shape, found.dtype) == ((8, 8, channels), np.uint8)
    assert found[0, 0, 0] == (82 if channels == 1 else 250)


def test_an_image_without_a_label_is_cut_and_resized_as_scenes_are(tmp_path):
    """As its source does where it has a window of its own, else the largest square in the middle."""
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    spec = Spec({"image": ArraySpec((16, 16, 3), "uint8"), "objects": ArraySpec((16, 16), "uint8")})
    (found,) = inputs.read(tmp_path / "a.png", spec).values()
    np.testing.assert_array_equal(found, picture)
    window, whole = (29, 221, 64, 256), (0, 240, 0, 320)
    for source, crop in (
        (Shapes(size=16), ()),
        (OwnScenes(path="x"), ()),
        (OwnScenes(path="x", crop=window), window),
        (OwnScenes(path="x", crop=(0, 300, 0, 300)), ()),
        (MultiObject(path="x"), window),
        (MultiObject(path="x", full_frame=True), whole),
    ):
        np.testing.assert_array_equal(inputs.prepare(found, source, spec), fitted(picture, crop, 16, True))
    np.testing.assert_array_equal(inputs.prepare(picture[:16, :16], MultiObject(path="x"), spec), picture[:16, :16])


@pytest.mark.parametrize("line", ["{} {} {}\n", "{},{},{}\n"])
def test_a_text_cloud_may_have_either_delimiter(tmp_path, line):
    (tmp_path / "a.txt").write_text("".join(line.format(k, -k, 0.5) for k in range(5)))
    (found,) = inputs.read(tmp_path / "a.txt", spec_of("points", 4, 3)).values()
    np.testing.assert_array_equal(found, [[k, -k, 0.5] for k in range(4)])
    with pytest.raises(ConfigError, match="a.txt: line 1: expected finite numbers 'x,y,z,nx,ny,nz'"):
        inputs.read(tmp_path / "a.txt", spec_of("points", 4, 6))


def test_an_array_holds_one_input_or_several(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 5, 3)))
    spec = spec_of("points", 4, 3)
    assert [found.shape for found in inputs.read(tmp_path / "a.npy", spec).values()] == [(5, 3)]
    assert list(inputs.read(tmp_path / "b.npy", spec)) == [f"{tmp_path / 'b.npy'}:{k}" for k in (1, 2)]


def test_images_are_prepared_as_in_evaluation():
    source = Drawings(size=16, image_size=8, permutation_seed=1, num_train=10)
    raw = Drawings(size=16, num_train=10).load("test", np.arange(2), None)["image"]
    expected = source.load("test", np.arange(2), None)["image"]
    for image, wanted in zip(raw, expected, strict=True):
        np.testing.assert_array_equal(inputs.prepare(image, source, source.spec), wanted)


def test_what_is_longer_is_cut_and_said(caplog):
    source = Patterns(longest=60, num_channels=2)
    found = inputs.prepare(np.ones((70, 2)), source, source.spec, "a.ts")
    assert (found.shape, found.dtype) == ((60, 2), np.float32)
    assert "a.ts has length 70: cut to the 60 that this run takes" in caplog.text


def test_text_is_given_as_str_or_bytes():
    spec = spec_of("tokens", 20, dtype="int32", mask=True)
    source = Text(path="nowhere")
    for text in ("schön", "schön".encode(), encode("schön".encode())):
        np.testing.assert_array_equal(inputs.prepare(text, source, spec), encode("schön".encode()))
    with pytest.raises(ConfigError, match="holds 0 to 300: expected 0 to 261"):
        inputs.prepare(np.array([0, 300]), source, spec)
    with pytest.raises(ConfigError, match="is empty"):
        inputs.prepare("", source, spec)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((16, 16, 1), np.uint8),
            r"shape \(16, 16, 1\): expected \(height, width, 3\)\. This run takes images",
        ),
        (np.zeros((3, 16, 16), np.uint8), "got what looks like channels first"),
        (np.zeros((16, 12, 3), np.uint8), r"shape \(16, 12, 3\): expected \(16, 16, 3\), as the run"),
        (np.zeros((16, 16, 3), np.float32), "type float32: expected uint8, in the units"),
        (np.full((16, 16, 3), 300), "holds 300 to 300: expected 0 to 255"),
    ],
)
def test_wrong_images(array, message):
    with pytest.raises(ConfigError, match=message):
        inputs.prepare(array, Drawings(), Drawings().spec)


def test_a_cloud_keeps_its_number_of_points():
    source = Solids(num_points=64)
    assert inputs.prepare(np.random.default_rng(0).normal(size=(9, 3)), source, source.spec).shape == (9, 3)
