# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: size, what is where, which way is up."""

import matplotlib
import numpy as np
import pytest

from perceiver_jax.figures.clouds import contact_sheet, heat_colors


def ink(image):
    return (image < 250).any(-1)


def test_a_cell_for_each_cloud():
    clouds = np.random.default_rng(0).normal(size=(5, 40, 3)).astype(np.float32)
    image = contact_sheet(clouds, list("abcde"), columns=3, dpi=50)
    assert image.shape == (200, 300, 3) and image.dtype == np.uint8
    cells = ink(image).reshape(2, 100, 3, 100).any((1, 3))
    assert cells.tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("up_axis", "xyz")
def test_up_is_up(up_axis):
    """A cone of points, wide below: more ink in the lower half."""
    random = np.random.default_rng(0)
    height = 1 - np.sqrt(random.uniform(size=(1, 2000, 1)))
    angle = random.uniform(0, 2 * np.pi, (1, 2000, 1))
    others = [(1 - height) * np.cos(angle), (1 - height) * np.sin(angle)]
    axis = "xyz".index(up_axis)
    others.insert(axis, 2 * height)
    picture = ink(contact_sheet(np.concatenate(others, -1), [""], columns=1, up_axis=up_axis))
    widths = picture.sum(1)[picture.any(1)]
    assert widths[-len(widths) // 3 :].mean() > 1.5 * widths[: len(widths) // 3].mean()


def test_flat_and_single_point_clouds_are_drawn():
    assert ink(contact_sheet(np.zeros((1, 3, 3), np.float32), ["point"])).any()


def test_a_title_for_each_cloud():
    with pytest.raises(ValueError, match="2 clouds, 1 titles"):
        contact_sheet(np.zeros((2, 3, 3), np.float32), ["one"])


def test_heat_is_viridis_from_nothing_to_the_largest_of_a_cloud():
    values = np.linspace(0, [[1.0], [3.0]], 40, axis=1)[..., 0]
    expected = np.round(255 * matplotlib.colormaps["viridis"](np.linspace(0, 1, 40))[:, :3])
    for colors in heat_colors(values):
        assert np.abs(colors - expected).max() < 8
