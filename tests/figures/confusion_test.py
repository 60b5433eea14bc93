# SPDX-License-Identifier: Apache-2.0
"""Confusion matrices: counts are in the cells, names at the axes, small ones in milliseconds."""

import numpy as np
import pytest

from perceiver_jax.figures import canvas, confusion

COUNTS = np.array([[8, 2, 0], [0, 5, 0], [1, 0, 1234]])
NAMES = ["chair", "a class with a name that is too long", "#$x$"]


def test_names_and_counts_are_written():
    figure = confusion.figure(COUNTS, NAMES)
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {"8", "2", "5", "1", "1,234"}
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [text.get_text() for text in axes.get_xticklabels()]
    assert labels[0] == "chair" and "…" in labels[1] and labels[2] == "#$x$"
    np.testing.assert_allclose(axes.images[0].get_array()[0], [0.8, 0.2, 0])
    assert canvas.rendered(figure, "png")[1:4] == b"PNG"


@pytest.mark.parametrize(("classes", "named", "counted"), [(46, True, False), (121, False, False)])
def test_many_classes_lose_counts_then_names(classes, named, counted):
    axes = confusion.figure(np.eye(classes), [f"class {k}" for k in range(classes)]).axes[0]
    assert bool(axes.texts) == counted
    assert (len(axes.get_yticks()) == classes) == named


def test_labels_stay_inside():
    """A margin of white at every edge: nothing is cut off."""
    pixels = canvas.pixels(confusion.figure(np.eye(10), [f"a rather long name {k}" for k in range(10)]))
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert all((edge > 250).all() for edge in edges)


@pytest.mark.parametrize("classes", [2, 40, 1000])
def test_thumbnails_have_a_cell_for_each_pair(classes):
    counts = np.zeros((classes, classes))
    counts[0, 1] = 3
    image = confusion.thumbnail(counts, ["고양이", *map(str, range(classes - 1))])
    assert image.dtype == np.uint8 and image.ndim == 3 and min(image.shape[:2]) >= min(400, classes)
    dark = (image == confusion.DARK.astype(np.uint8)).all(-1)
    assert dark.sum() == max(confusion.SIDE // classes, 1) ** 2
