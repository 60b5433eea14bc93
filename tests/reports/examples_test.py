# SPDX-License-Identifier: Apache-2.0
"""Examples of every kind of data as pictures and text."""

import numpy as np
import pytest

from perceiver_jax.data.babble import Babble
from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.patterns import Patterns
from perceiver_jax.data.scenes import Shapes, Sprites
from perceiver_jax.data.solids import Solids
from perceiver_jax.reports import examples

SIZES = {"num_train": 16, "num_validation": 10, "num_test": 10, "seed": 0}


def test_pictures_of_every_kind_differ_between_examples():
    sources = [Drawings(size=8, **SIZES), Solids(num_points=20, **SIZES | {"num_train": 64}), Patterns(**SIZES)]
    for source in [*sources, Shapes(size=16, **SIZES), Sprites(size=16, **SIZES)]:
        found = examples.read(source, "test", [3, 1])
        assert all(example.picture.dtype == np.uint8 and example.text is None for example in found)
        assert not np.array_equal(found[0].picture, found[1].picture)
        np.testing.assert_array_equal(examples.read(source, "test", [1])[0].picture, found[1].picture)
    assert examples.read(sources[0], "test", []) == []


def test_texts_are_texts():
    source = Babble(seed=0)
    (example,) = examples.read(source, "test", [0])
    assert example.picture is None and len(example.text) > 5
    assert list(examples.samples(source)) == ["texts"]


def test_permuted_pixels_are_shown_in_their_places():
    plain, permuted = (Drawings(size=8, permutation_seed=seed, **SIZES) for seed in (None, 3))
    loaded = [source.load("test", np.arange(2), None)["image"] for source in (plain, permuted)]
    assert not np.array_equal(*loaded)
    np.testing.assert_array_equal(permuted.unpermuted(loaded[1]), loaded[0])
    shown = [examples.read(source, "test", [0])[0].picture for source in (plain, permuted)]
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize("up_axis", "yz")
def test_samples_of_clouds_stand_upright(up_axis):
    source = Solids(num_points=20, up_axis=up_axis, **SIZES | {"num_train": 64})
    (clouds,) = examples.samples(source).values()
    loaded = source.load("train", np.arange(8), 0)["points"]
    assert len(clouds) == 8
    for cloud, points in zip(clouds.values(), loaded, strict=True):
        np.testing.assert_array_equal(cloud[:, 1], points[:, "xyz".index(up_axis)])


@pytest.mark.parametrize("source", [Drawings(size=8, **SIZES), Shapes(size=8, **SIZES)], ids=["labels", "no labels"])
def test_samples_of_images_are_one_sheet(source):
    (images,) = examples.samples(source).values()
    assert images["samples"].ndim == 3 and images["samples"].dtype == np.uint8
