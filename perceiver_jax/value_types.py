# SPDX-License-Identifier: Apache-2.0
"""Whether a value is what its field is annotated with: said in words, before anything computes with it.

Flags are checked by ml_collections already; values that come from a `config.json` or from code are not. Numbers are
bounded too: no size, seed or count of ours needs more than 32 bits, and no field wants a value that is not finite.
"""

import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 2**31 - 1
WORDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text", type(None): "None"}


def problem(key: str, value: Any, annotation: Any) -> str | None:
    """A sentence on what is wrong with the value of `key`, or None.

    An annotation that is no plain type, union or sequence of these (a module, say) is for the constructor to check.
    """
    if _fits(value, annotation):
        return None
    shown = repr(value)
    return f"{key}={shown if len(shown) <= 60 else shown[:57] + '...'}: expected {_words(annotation)}."


def _fits(value: Any, annotation: Any) -> bool:
    options = typing.get_args(annotation)
    if _is_union(annotation):
        return any(_fits(value, option) for option in options)
    if _is_sequence(annotation):
        rows = isinstance(value, Sequence) and not isinstance(value, str)
        return rows and all(_fits(item, option) for item in value for option in options[:1])
    if annotation in (None, type(None)):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if annotation is str:
        return isinstance(value, str)
    return annotation not in (Mapping, dict) or isinstance(value, Mapping)


def _is_finite(value: int | float) -> bool:
    return abs(value) <= 1e30 and not math.isnan(value)  # float32 ends at 3e38


def _words(annotation: Any) -> str:
    if _is_union(annotation):
        named = [_words(option) for option in typing.get_args(annotation)]
        if {"a whole number", "a finite number"} <= set(named):
            named.remove("a whole number")
        return " or ".join(named)
    if _is_sequence(annotation):
        return f"a list, each {_words((*typing.get_args(annotation), Any)[0])}"
    if annotation is int:
        return f"{WORDS[int]} of at most {LARGEST}"
    return WORDS.get(annotation, "a section")


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_sequence(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Sequence, list, tuple)
