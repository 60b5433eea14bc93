# SPDX-License-Identifier: Apache-2.0
"""Every name in the registry has keys that its constructor takes, and a nearest-name answer for typing errors."""

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.registry import NAMED, PARTS, build, find

ALL = [(kind, name) for kind, parts in PARTS.items() for name in parts]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_what_is_given_is_no_key(kind, name):
    part = find(kind, name)
    assert not set(part.given) & set(part.parameters())
    assert "parent" not in part.parameters()


@pytest.mark.parametrize("kind", PARTS)
def test_unknown_name_lists_the_known(kind):
    with pytest.raises(ConfigError, match=next(iter(PARTS[kind]))):
        find(kind, "nothing-like-it")


def test_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'max_resolution'"):
        build("positions", {"name": "fourier", "fourier_bands": 4, "max_resolutions": 8.0})


def test_the_section_s_name_reaches_the_parts_that_serve_several():
    assert set(NAMED) < set(PARTS)
    with pytest.raises(ConfigError, match="expected 0 with adam"):
        build("optimizer", {"name": "adam", "learning_rate": 1.0, "weight_decay": 0.1})
