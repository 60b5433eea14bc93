# SPDX-License-Identifier: Apache-2.0
"""A cross lies where its slot says, a ring where the object is, and the line says whether the classes are right."""

import numpy as np
import pytest

from perceiver_jax.figures.object_sets import RIGHT, SIDE, WRONG, Objects, sheet

IMAGES = np.zeros((1, 16, 16, 3), np.uint8)


def objects(places, classes, present):
    return Objects(np.array([places], float), np.array([classes]), np.array([present]))


def has(picture, colour):
    return bool((picture == np.array(colour)).all(-1).any())


@pytest.mark.parametrize(("said", "line"), [(1, RIGHT), (0, WRONG)])
def test_the_line_of_a_pair_is_green_where_the_classes_are_the_same(said, line):
    predicted = objects([[0.2, 0.2], [0.9, 0.9]], [[said], [0]], [True, False])
    picture = sheet(IMAGES, predicted, objects([[0.7, 0.7]], [[1]], [True]), np.array([[0, -1]]))
    assert has(picture, line) and has(picture, RIGHT) != has(picture, WRONG) and picture.shape[1] >= 4 * SIDE


def test_what_is_not_there_is_not_drawn():
    nothing = objects([[0.2, 0.2]], [[1]], [False])
    assert not has(sheet(IMAGES, nothing, nothing, np.array([[0]])), RIGHT)


def test_three_coordinates_are_seen_from_above():
    """On white, not on the image."""
    picture = sheet(IMAGES, objects([[0.2, 0.2, 0.5]], [[1]], [True]))
    assert (picture[-20, 20] == 255).all() and (sheet(IMAGES, objects([[0.2, 0.2]], [[1]], [True]))[-20, 20] == 0).all()
