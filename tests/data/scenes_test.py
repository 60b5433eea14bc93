# SPDX-License-Identifier: Apache-2.0
import colorsys
import hashlib
import pickle

import numpy as np
import pytest

from perceiver_jax.data.scenes import ATTRIBUTES, OUTLINES, Scenes, Shapes, Sprites, from_hsv
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError

SOURCES = {
    "shapes": Shapes(num_train=100),
    "32": Shapes(size=32),
    "gray": Sprites(),
    "colour": Sprites(background="colour", min_objects=1, max_objects=4, size=48),
    "rgb": Sprites(variant="colored_on_colored"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_scene_is_what_its_attributes_say(name):
    source, ids = SOURCES[name], np.arange(20)
    batch = source.load("train", ids, 0)
    for key, array in source.spec.arrays.items():
        assert (batch[key].shape[1:], batch[key].dtype.name) == (array.shape, array.dtype)
    counts = source.labels("train")[ids]
    assert source.min_objects <= counts.min() and counts.max() <= source.max_objects
    grid = (np.arange(source.size) + 0.5) / source.size
    for image, objects, attributes, count in zip(*(batch[k] for k in source.spec.arrays), counts, strict=True):
        assert attributes[:, 0].sum() == count and not attributes[count:].any()
        expected, pixels = np.zeros_like(objects), []
        for index, row in enumerate(attributes[:count]):
            values = dict(zip(ATTRIBUTES, row, strict=True))
            right, down = grid[None] - values["x"], grid[:, None] - values["y"]
            cosine, sine = np.cos(values["angle"]), np.sin(values["angle"])
            u, v = (cosine * right + sine * down), (cosine * down - sine * right)
            outline = OUTLINES[source.shapes[int(values["shape"])]]
            inside = outline(u / values["size"], v / values["size"]) <= 0
            expected[inside] = index + 1
            pixels.append(inside.sum())
            colour = np.round(255 * row[6:9])
            assert (np.abs(image[objects == index + 1].astype(float) - colour) <= 1).all()
        assert (expected != objects).sum() <= 2  # rounding at an edge
        own = np.bincount(objects.ravel(), minlength=count + 1)[1 : count + 1]
        np.testing.assert_allclose(attributes[:count, -1], own / pixels, atol=0.05)
        assert len(np.unique(image[objects == 0], axis=0)) == 1


@pytest.mark.parametrize("kind", [Shapes, Sprites])
def test_few_colours_and_sizes_are_named_in_the_properties(kind):
    source = kind(num_colours=5, num_sizes=3, size=32, max_objects=8)
    batch = source.load("train", np.arange(40), None)
    names = [(each.name, each.num_classes) for each in source.spec.properties]
    assert names == [("x", 0), ("y", 0), ("size", 3), ("shape", 3), ("colour", 5)]
    assert batch["properties"].shape[1:] == source.spec.arrays["properties"].shape == (8, 14)
    rows, truth = batch["properties"].reshape(-1, 14), batch["attributes"].reshape(-1, len(ATTRIBUTES))
    np.testing.assert_array_equal(rows[:, -1], truth[:, -1] > 0)  # what is hidden is no target
    assert not rows[rows[:, -1] == 0].any()
    rows, truth = rows[rows[:, -1] == 1], truth[rows[:, -1] == 1]
    np.testing.assert_array_equal(rows[:, :2], truth[:, 2:4])
    np.testing.assert_array_equal(rows[:, 5:8].argmax(1), truth[:, 1])
    radius = np.linspace(source.min_radius, source.max_radius, 3)
    np.testing.assert_allclose(radius[rows[:, 2:5].argmax(1)], truth[:, 4], rtol=1e-5)
    hue = np.array([colorsys.rgb_to_hsv(*row)[0] for row in truth[:, 6:9]])
    np.testing.assert_allclose((5 * hue - rows[:, 8:13].argmax(1) + 0.5) % 5, 0.5, atol=1e-3)
    assert (rows[:, 2:13].sum(1) == 3).all() and (np.bincount(rows[:, 8:13].argmax(1)) > 10).all()
    plain = kind(num_colours=5)
    assert plain.spec.properties == () and "properties" not in plain.load("train", np.arange(2), None)


def test_an_example_follows_from_its_number_and_the_seed():
    source = SOURCES["gray"]
    together, alone = source.load("test", np.arange(8), None), source.load("test", np.array([5]), 3)
    for name in together:
        np.testing.assert_array_equal(together[name][5], alone[name][0])
    other = Sprites(set_seed=1).load("test", np.array([5]), None)
    assert not np.array_equal(other["image"], alone["image"])
    assert not np.array_equal(source.load("train", np.array([5]), None)["image"], alone["image"])
    assert isinstance(source, Source) and pickle.loads(pickle.dumps(source)) == source


def test_every_outline_lies_in_its_circle_and_fills_a_good_part_of_it():
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 601), np.linspace(-1.5, 1.5, 601))
    for name, outline in OUTLINES.items():
        inside = outline(x, y) <= 0
        assert np.hypot(x, y)[inside].max() <= 1.01, name
        assert 0.35 < inside.sum() * 0.005**2 / np.pi <= 1.01, name


def test_the_four_backgrounds():
    pixels = {
        name: Sprites(background=name, max_radius=0.13).load("train", np.arange(9), None)["image"][:, 0, 0]
        for name in ("gray", "colour", "rgb", "black")
    }
    assert (pixels["gray"] == pixels["gray"][:, :1]).all() and len(np.unique(pixels["gray"])) > 5
    assert (pixels["colour"] != pixels["colour"][:, :1]).any() and not pixels["black"].any()
    assert (pixels["rgb"] != pixels["colour"]).any()


def test_the_variants_are_those_of_the_published_set():
    """Numbers of sprites and colours as its README has them; what a field says goes before."""
    ids, loaded = np.arange(60), {}
    for variant, counts in {"colored_on_grayscale": (2, 5), "colored_on_colored": (1, 4), "binarized": (2, 3)}.items():
        source = Sprites(variant=variant, size=32)
        found = source.labels("train")[ids]
        assert (found.min(), found.max()) == (source.min_objects, source.max_objects) == counts
        loaded[variant] = source.load("train", ids, None)
    white = loaded["binarized"]
    np.testing.assert_array_equal(white["image"], 255 * np.repeat((white["objects"] > 0)[..., None], 3, 3))
    colours = {name: batch["attributes"][batch["attributes"][..., 0] > 0, 6:9] for name, batch in loaded.items()}
    assert colours["colored_on_grayscale"].max(1).min() >= 0.6 > 0.4 > colours["colored_on_colored"].max(1).min()
    assert not np.array_equal(colours["colored_on_colored"].mean(1), colours["colored_on_colored"][:, 0])
    corner = loaded["colored_on_colored"]["image"][:, 0, 0].astype(int)
    assert (corner.max(1) - corner.min(1)).max() > 100
    assert Sprites(variant="binarized", max_objects=6, background="gray").max_objects == 6


def test_recorded_measurements_are_of_these_images():
    digests = {
        Sprites: "e7bec300664eaee13508af6bf9c2db393538b08197587f93a64566cdd9793108",
        Shapes: "8847fceb9cb48efbbd576b9e0606b753576046798a7ec57c41b767be0ab605f2",
    }
    for kind, digest in digests.items():
        batch = kind().load("train", np.arange(64), None)
        assert hashlib.sha256(batch["image"].tobytes() + batch["objects"].tobytes()).hexdigest() == digest, kind
    same = Sprites(min_objects=2, max_objects=5, background="gray")
    assert same == Sprites()


def test_hsv_is_the_standard_librarys():
    values = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(from_hsv(*values.T), [colorsys.hsv_to_rgb(*row) for row in values], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Scenes, {"size": 4}, "size=4: expected at least 8"),
        (Scenes, {"max_objects": 1}, "max_objects=1: expected min_objects=2 or more"),
        (Scenes, {"min_radius": 0.3}, "min_radius=0.3, max_radius=0.18"),
        (Sprites, {"background": "red"}, "background='red': expected one of gray, colour, rgb, black"),
        (Sprites, {"variant": "grey"}, "variant='grey': expected one of colored_on_grayscale, colored_on_colored, bin"),
        (Sprites, {"variant": "binarized", "min_objects": 4}, "max_objects=3: expected min_objects=4 or more"),
        (Sprites, {"variant": "binarized", "num_colours": 4}, "num_colours=4: expected 0 with variant='binarized'"),
    ],
)
def test_impossible_scenes_are_refused(kind, fields, message):
    with pytest.raises(ConfigError, match=message):
        kind(**fields)
