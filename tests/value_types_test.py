# SPDX-License-Identifier: Apache-2.0
"""Values and the types their fields are annotated with."""

from collections.abc import Sequence
from typing import Any

import pytest

from perceiver_jax.value_types import problem


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        (-(2**31) + 1, int),
        (3, float),
        (0.5, float),
        (True, bool),
        ("x", str),
        (None, int | None),
        (4, int | None),
        ([1, 2.5], Sequence[float]),
        ((), Sequence[str]),
        (2.0, float | int | Sequence[float | int]),
        ({"name": "x"}, object),
        ([[1]], Any),
    ],
)
def test_what_fits(value, annotation):
    assert problem("key", value, annotation) is None


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("3", int, "key='3': expected a whole number of at most 2147483647."),
        (True, int, "key=True: expected a whole number"),
        (2**31, int, "key=2147483648: expected a whole number of at most 2147483647."),
        (0.5, int, "key=0.5: expected a whole number"),
        (float("nan"), float, "key=nan: expected a finite number."),
        (1e31, float, "key=1e+31: expected a finite number."),
        (10**400, float, "expected a finite number."),
        (1, bool, "key=1: expected True or False."),
        (None, str, "key=None: expected a text."),
        ("x", int | None, "key='x': expected a whole number of at most 2147483647 or None."),
        ("xy", Sequence[str], "key='xy': expected a list, each a text."),
        ([1, "x"], Sequence[float], "key=[1, 'x']: expected a list, each a finite number."),
    ],
)
def test_what_does_not_fit(value, annotation, expected):
    told = problem("key", value, annotation)
    assert told is not None and expected in told and len(told) < 150
