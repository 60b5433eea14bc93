# SPDX-License-Identifier: Apache-2.0
"""No box instead of a letter: another font, or the class's number and a warning."""

import logging

import matplotlib
import pytest

from perceiver_jax.figures.lettering import LONGEST, lettered, shortened

NOWHERE = "\U00013050"  # a hieroglyph
SCRIPT = "\U0001d4d0"  # a mathematical letter that DejaVu Sans lacks and matplotlib's other fonts have


def test_names_are_shown_as_they_are_in_the_usual_font(caplog):
    with lettered(["chair", "Stuhl_ä", "$x$"]) as labels:
        assert matplotlib.rcParams["font.family"] == ["sans-serif"] and labels == ["chair", "Stuhl_ä", "$x$"]
    assert caplog.records == []


def test_another_font_is_taken_for_what_the_usual_one_lacks(caplog):
    before = matplotlib.rcParams["font.family"]
    with lettered(["chair", f"{SCRIPT}"]) as labels:
        assert matplotlib.rcParams["font.family"][0] == "sans-serif" and len(matplotlib.rcParams["font.family"]) == 2
        assert labels == ["chair", SCRIPT]
    assert matplotlib.rcParams["font.family"] == before and caplog.records == []


def test_what_no_font_has_is_a_number_and_said_once(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("perceiver_jax"), "propagate", True)
    with lettered(["chair", f"bird {NOWHERE}", "table"]) as labels:
        assert labels == ["chair", "#1", "table"]
    (record,) = caplog.records
    assert "U+13050: 1 of 3 names are shown by their number" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("night stand", "night stand"), ("a\nb", "a b"), ("first" + 40 * "x" + "last", "firstxxxxxx…xxxxxxxxlast")],
)
def test_long_names_keep_their_ends(name, expected):
    assert shortened(name) == expected and len(expected) <= LONGEST
