# SPDX-License-Identifier: Apache-2.0
"""The seven colormaps, one scale for what is compared, and no more epochs than there is room for."""

import numpy as np
import pytest

from perceiver_jax.figures import attention
from perceiver_jax.figures.attention_views import ImageView

TITLES = ["a", "b"]
RNG = np.random.default_rng(0)
VIEW = ImageView(RNG.integers(0, 255, (2, 4, 4, 3), np.uint8), (4, 4))


def statistics(number):
    return {name: np.full(2, number) for name in ("mean", "std", "entropy", "entropy_share", "peaks", "std_relative")}


def test_the_colormaps_are_the_seven_and_say_what_each_is_best_for():
    assert list(attention.COLORMAPS) == ["viridis", "plasma", "inferno", "jet", "hot", "cool", "seismic"]
    assert all(attention.COLORMAPS.values())


@pytest.mark.parametrize("colormap", attention.COLORMAPS)
def test_the_scale_begins_at_nothing_and_a_diverging_one_is_white_where_attention_is_even(colormap):
    norm = attention.Look(colormap, 0.7, 4.0).colours()["norm"]
    assert (norm(0.0), norm(4.0)) == (0, 1)
    assert (norm(1.0) == 0.5) == (colormap == "seismic")


def test_all_overlays_of_an_evolution_have_one_scale_and_stand_under_their_epoch():
    maps = {float(epoch): RNG.uniform(0, epoch, (2, 16)) for epoch in range(1, 21)}
    figure = attention.evolution(
        VIEW,
        maps,
        {epoch: statistics(epoch) for epoch in maps},
        TITLES,
        heading="x",
        look=attention.Look("hot", 0.5, 3),
    )
    top = figure.subfigs[0].axes
    titles = [axes.get_title() for axes in top if axes.get_title().startswith("epoch")]
    assert len(titles) == VIEW.most_epochs and titles[0] == "epoch 1" and titles[-1] == "epoch 20"
    scales = {image.get_clim() for axes in top for image in axes.images[1:]}
    assert scales == {(0.0, 3.0)}


def test_six_panels():
    maps = RNG.uniform(0, 2, (2, 16))
    figure = attention.comprehensive(
        VIEW,
        maps,
        maps > 1.8,
        statistics(0.5),
        TITLES,
        ["a 50%", "b 90%"],
        heading="run",
        look=attention.Look("viridis", 0.7, 2.0),
    )
    panels = [panel.get_suptitle() for panel in figure.subfigs]
    assert [panel.split(":")[0] for panel in panels] == [
        *("Original", "Attention", "Overlay"),
        *("Statistics", "Distribution", "Peaks"),
    ]
