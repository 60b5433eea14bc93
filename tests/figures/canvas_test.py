# SPDX-License-Identifier: Apache-2.0
"""Files of figures in their formats; looks that differ."""

from itertools import islice

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas


def test_every_format_is_what_it_says():
    figure = canvas.new(1, 1)
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert set(starts) == set(canvas.FORMATS)
    for kind, start in starts.items():
        assert canvas.rendered(figure, kind).startswith(start)
    assert canvas.pixels(figure).shape == (canvas.DPI, canvas.DPI, 3)


@pytest.mark.parametrize("formats", [[], ["png", "jpg"], [""]])
def test_unknown_formats_are_named(formats):
    with pytest.raises(ConfigError, match="expected some of png, svg, pdf"):
        canvas.check_formats(formats)


def test_lines_look_different():
    looks = [tuple(look.values()) for look in islice(canvas.line_styles(), 40)]
    assert len(looks) == len(set(looks)) == 28
    assert len({colour for colour, _ in looks[:7]}) == 7
