# SPDX-License-Identifier: Apache-2.0
"""What an object is, as one row of numbers from 0 to 1: the array `properties`, the target of set prediction.

Its columns, from left to right: coordinates, classes (one of their columns is 1), and one that is 1 for an object and 0
for padding, which is 0 all along (Locatello et al. 2020, section 4.2).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num, Shaped


@dataclasses.dataclass(frozen=True)
class Property:
    """What some columns say.

    Attributes:
        name: of it.
        num_classes: a column each; 0 for a coordinate, one column.
        scale: of a coordinate: how long 1 is in the units that distances between objects are given in.
    """

    name: str
    num_classes: int = 0
    scale: float = 1.0


def num_columns(properties: Sequence[Property]) -> int:
    """Of the array."""
    return sum(max(each.num_classes, 1) for each in properties) + 1


def encoded(
    properties: Sequence[Property], values: Sequence[Num[np.ndarray, "*rows"]], present: Shaped[np.ndarray, "*rows"]
) -> Float[np.ndarray, "*rows columns"]:
    """The array.

    Args:
        values: of each property: coordinates from 0 to 1, classes from 0 on.
        present: 1 for an object.
    """
    columns = [
        np.eye(each.num_classes)[value.astype(int)] if each.num_classes else value[..., None]
        for each, value in zip(properties, values, strict=True)
    ]
    return (np.concatenate([*columns, np.ones((*present.shape, 1))], -1) * present[..., None]).astype(np.float32)


def decoded(
    properties: Sequence[Property], array: Float[np.ndarray, "*rows columns"]
) -> dict[str, Num[np.ndarray, "*rows"]]:
    """What the columns say, by name: coordinates from 0 to 1, the likeliest class of each other property from 0 on.

    `confidence` is the last column.
    """
    found, start = {}, 0
    for each in properties:
        part = array[..., start : start + max(each.num_classes, 1)]
        found[each.name] = part.argmax(-1) if each.num_classes else part[..., 0]
        start += part.shape[-1]
    return found | {"confidence": array[..., -1]}
