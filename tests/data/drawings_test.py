# SPDX-License-Identifier: Apache-2.0
"""Drawings: a pure function of (set_seed, id); the classes can be told apart."""

import numpy as np
import pytest

from perceiver_jax.data.drawings import NAMES, Drawings
from perceiver_jax.errors import ConfigError


def test_an_example_follows_from_its_id():
    drawings = Drawings(size=12, num_train=100)
    whole = drawings.load("train", np.arange(100), None)
    assert whole["image"].dtype == np.uint8 and whole["image"].shape == (100, 12, 12, 3)
    np.testing.assert_array_equal(drawings.load("train", np.array([7, 3]), None)["image"], whole["image"][[7, 3]])
    np.testing.assert_array_equal(whole["label"], drawings.labels("train"))
    assert len({image.tobytes() for image in whole["image"]}) == 100
    for other in (Drawings(size=12, set_seed=1), Drawings(size=12)):
        split = "train" if other.set_seed else "test"
        assert not np.array_equal(other.load(split, np.arange(10), None)["image"], whole["image"][:10])


def test_the_figure_fills_as_much_as_its_kind_does():
    images = Drawings(size=32, noise=0.0, num_train=2000).load("train", np.arange(2000), None)["image"]
    differs = (np.abs(images.astype(int) - images[:, :1, :1]).sum(-1) > 60).mean((1, 2))
    area = {name: differs[k :: len(NAMES)].mean() for k, name in enumerate(NAMES)}
    assert area["square"] > area["cross"] > area["bar"] and area["disc"] > area["ellipse"] > area["bar"]


def test_sizes_are_checked():
    with pytest.raises(ConfigError, match="num_train=0: expected at least 1"):
        Drawings(num_train=0)
    with pytest.raises(ConfigError, match="noise=-1"):
        Drawings(noise=-1.0)
