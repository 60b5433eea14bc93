# SPDX-License-Identifier: Apache-2.0
"""True scenes are parsed as they were drawn; what no set draws is no valid object."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from perceiver_jax.data.scenes import OUTLINES, Shapes, Sprites
from perceiver_jax.metrics.scene_parser import SceneParser, generation_accuracy, hue_of, interval

SETS = {
    "shapes": Shapes(max_objects=4),
    "shapes32": Shapes(size=32, max_objects=4, min_radius=0.12, max_radius=0.2),
    "sprites": Sprites(background="colour", min_objects=1, max_objects=3),
}
RED = np.array([230, 20, 30], np.uint8)


def parser_of(source):
    outlines = {name: OUTLINES[name] for name in source.shapes}
    return SceneParser(outlines=outlines, radii=(source.min_radius, source.max_radius), turned=source.turned)


def blurred(images, sigma):
    return np.clip(ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0)), 0, 255).astype(np.uint8)


def drawn(inside, colour=RED, size=64):
    """What is inside, in one colour on black; x and y from 0 to 1."""
    y, x = np.mgrid[:size, :size] / size + 0.5 / size
    return np.where(inside(x, y)[..., None], colour, np.uint8(0))


@pytest.mark.parametrize(("name", "least"), [("shapes", 0.95), ("shapes32", 0.95), ("sprites", 0.85)])
def test_true_scenes_are_parsed_as_they_were_drawn(name, least):
    source, parser = SETS[name], parser_of(SETS[name])
    batch = source.load("test", np.arange(16), None)
    found = total = 0
    for image, objects, attributes in zip(*(batch[key] for key in ("image", "objects", "attributes")), strict=True):
        parsed = parser.parse(image)
        for number, row in enumerate(attributes, 1):
            if row[0] and row[-1] > 0.8:
                total += 1
                found += any(is_drawn(thing, objects == number, row, source) for thing in parsed)
    assert total > 20 and found >= least * total
    assert generation_accuracy(parser, batch["image"])["accuracy"] >= least - 0.05


def is_drawn(thing, mask, row, source):
    same = (thing.mask & mask).sum() > 0.9 * mask.sum() and thing.shape == source.shapes[int(row[1])]
    near = max(abs(thing.x - row[2]), abs(thing.y - row[3]), abs(thing.radius - row[4])) < 1.5 / source.size
    return same and near and thing.valid and thing.hue == hue_of(255 * row[6:9])


def test_blur_changes_little():
    source = SETS["shapes"]
    images = source.load("test", np.arange(12), None)["image"]
    assert generation_accuracy(parser_of(source), blurred(images, 0.6))["accuracy"] > 0.8


GREY, DARK = np.array([150, 150, 150], np.uint8), np.array([90, 0, 0], np.uint8)
NO_OBJECTS = {
    "ellipse": drawn(lambda x, y: np.hypot(x - 0.5, 2 * (y - 0.5)) < 0.18),
    "two in one": drawn(lambda x, y: np.minimum(np.hypot(x - 0.4, y - 0.5), np.hypot(x - 0.6, y - 0.55)) < 0.13),
    "half": drawn(lambda x, y: (np.hypot(x - 0.5, y - 0.5) < 0.18) & (x > 0.48)),
    "cut by the border": drawn(lambda x, y: np.hypot(x - 0.04, y - 0.5) < 0.18),
    "too large": drawn(lambda x, y: np.hypot(x - 0.5, y - 0.5) < 0.3),
    "grey": drawn(lambda x, y: np.hypot(x - 0.5, y - 0.5) < 0.15, GREY),
    "dark": drawn(lambda x, y: np.hypot(x - 0.5, y - 0.5) < 0.15, DARK),
    "nothing": np.zeros((64, 64, 3), np.uint8),
}


@pytest.mark.parametrize("name", [*NO_OBJECTS, "texture"])
def test_what_no_set_draws_is_not_valid(name):
    parser = parser_of(SETS["shapes"])
    good = drawn(lambda x, y: np.hypot(x - 0.5, y - 0.5) < 0.15)
    noise = np.random.default_rng(0).integers(0, 256, good.shape, np.uint8)
    image = NO_OBJECTS.get(name, np.where(good > 0, noise, np.uint8(0)))
    result = generation_accuracy(parser, np.stack([image, good]))
    assert (result["accuracy"], result["num_images"]) == (0.5, 2)


def test_one_bad_object_spoils_an_image():
    left = drawn(lambda x, y: np.hypot(x - 0.25, y - 0.5) < 0.14)
    bad = drawn(lambda x, y: np.hypot(x - 0.75, 2 * (y - 0.5)) < 0.16, np.array([10, 20, 240], np.uint8))
    result = generation_accuracy(parser_of(SETS["shapes"]), np.stack([left + bad]))
    assert (result["accuracy"], result["valid_objects"], result["num_objects"]) == (0, 0.5, {"2": 1})


@pytest.mark.parametrize(("counts", "share"), [((1, 2), 2 / 3), ((2, 3), 1 / 3), ((0, 1), 2 / 3)])
def test_a_scene_has_as_many_objects_as_the_set_draws(counts, share):
    left, right = (drawn(lambda x, y, at=at: np.hypot(x - at, y - 0.5) < 0.14) for at in (0.25, 0.75))
    parser = dataclasses.replace(parser_of(SETS["shapes"]), counts=counts)
    result = generation_accuracy(parser, np.stack([left, left + right[..., ::-1], 0 * left]))
    assert (result["count_accuracy"], result["accuracy"]) == (pytest.approx(share), pytest.approx(2 / 3))


def test_the_interval_is_wilsons():
    assert interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (interval(0, 20)[0], interval(20, 20)[1]) == pytest.approx((0, 1)) and interval(0, 0) == (0, 1)
