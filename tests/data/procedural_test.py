# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from perceiver_jax.data.procedural import Procedural, check_counts
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Set(Procedural):
    num_train: int = 7
    num_validation: int = 2
    num_test: int = 1
    size: int = 3

    def __post_init__(self):
        check_counts(self, "size")


def test_splits_are_as_large_as_their_fields():
    assert [Set().num_examples(split) for split in Set().splits] == [7, 2, 1]
    assert Set().splits == ("train", "validation", "test")


@pytest.mark.parametrize("name", ["num_train", "num_validation", "num_test", "size"])
def test_nothing_may_be_empty(name):
    with pytest.raises(ConfigError, match=f"{name}=0: expected at least 1"):
        Set(**{name: 0})
