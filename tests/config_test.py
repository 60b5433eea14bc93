# SPDX-License-Identifier: Apache-2.0
"""Sections, variants, differences: what a config file is made of."""

import pytest
from ml_collections import ConfigDict

from perceiver_jax import config as configs
from perceiver_jax.errors import ConfigError


def test_section_holds_every_field_of_the_constructor():
    section = configs.section("positions", "fourier", fourier_bands=4, max_resolution=8.0)
    assert section.to_dict() == {
        "name": "fourier",
        "fourier_bands": 4,
        "max_resolution": 8.0,
        "include_positions": True,
    }


def test_none_stays_overridable_with_its_type():
    section = configs.section("optimizer", "adamw", learning_rate=1e-3)
    section.clip_norm = 2.0
    with pytest.raises(TypeError):
        section.clip_norm = "two"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("positions", "furier"), "did you mean 'fourier'"),
        (("positions", "fourier", {"fourier_band": 4}), "did you mean 'fourier_bands'"),
        (("positions", "fourier", {"fourier_bands": 4}), "needs a value for max_resolution"),
    ],
)
def test_wrong_sections_name_what_is_wrong(arguments, expected):
    *names, values = (*arguments, {}) if len(arguments) == 2 else arguments
    with pytest.raises(ConfigError, match=expected):
        configs.section(*names, **values)


def test_vary_locks_and_applies_in_order():
    def double(config):
        config.n *= 2

    def plus_one(config):
        config.n += 1

    config = configs.vary(ConfigDict({"n": 3}), "double,plus_one", {"double": double, "plus_one": plus_one})
    assert config.n == 7
    with pytest.raises(AttributeError):
        config.m = 1


def test_unknown_variant_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'tinny' is unknown; did you mean 'tiny'\?: this config has tiny, paper"):
        configs.vary(ConfigDict(), "tinny", {"tiny": print, "paper": print})


def test_differences_are_by_dotted_key():
    old, new = {"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"b": 2, "c": [1, 2]}, "e": None}
    assert configs.differences(old, new) == ["a.b: 1 -> 2", "d: 1 -> None"]


def test_not_a_run_folder(tmp_path):
    with pytest.raises(ConfigError, match="is not a run folder"):
        configs.load(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        configs.load(tmp_path / "config.json")
