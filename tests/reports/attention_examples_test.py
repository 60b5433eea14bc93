# SPDX-License-Identifier: Apache-2.0
"""Padding has no value; bytes of a character are one field; images without a grid cannot be laid out."""

import numpy as np
import pytest

from perceiver_jax.data.text import encode
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, write_json
from perceiver_jax.reports import attention_examples, attention_maps
from perceiver_jax.reports.attention_report import Choice, prepared
from tests.reports.attention_files import write_run


@pytest.mark.parametrize("kind", ["sequence", "text"])
def test_padding_has_no_value(kind, tmp_path):
    examples = attention_examples.read(write_run(tmp_path, kind, steps=(8,)))
    shown = prepared(attention_maps.read(tmp_path, 8), 1.0, Choice(None, None, "mean", False), examples)
    np.testing.assert_array_equal(np.isnan(shown.maps), np.arange(20) >= np.array([[20], [15]]))
    np.testing.assert_allclose(np.nanmean(shown.maps, 1), 1, rtol=1e-3)


def test_characters_of_several_bytes_are_one_field():
    text, starts = attention_examples.characters(encode("a개\nb\x07".encode()))
    assert text == "a개↵b·" and starts.tolist() == [0, 1, 4, 5, 6]
    examples = attention_examples.Examples(None, np.zeros(1), starts=(starts,))
    maps = np.array([[0.1, 0.2, 0.2, 0.1, 0.3, 0.1, 0.0]])
    np.testing.assert_allclose(examples.drawn(maps), [[0.1, 0.5, 0.3, 0.1, 0.0]])


def test_a_text_cut_inside_a_character_is_drawn():
    text, starts = attention_examples.characters(encode("개a".encode()[1:]))
    assert len(text) == len(starts) == 2 and text[1] == "a"


def test_images_that_no_grid_fits_are_one_line(tmp_path):
    file = write_run(tmp_path, "image") / "attention" / "about.json"
    write_json(file, read_json(file) | {"grid": None})
    with pytest.raises(ConfigError, match=r"images of shape \(8, 8, 3\) do not lie on a grid"):
        attention_examples.read(tmp_path)
