# SPDX-License-Identifier: Apache-2.0
"""What a source says about its examples; task, model and every later command are built from it alone."""

import dataclasses
from typing import Any

import numpy as np

from perceiver_jax.data.properties import Property, num_columns
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """Shape and NumPy dtype name of one array of ONE example (no batch axis)."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype).name)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Arrays of an example by name, and the facts of the set that a model or a report needs.

    `mean` and `std` are per channel, in the units of the raw input; `max_length` is the longest sequence of
    the set. `properties` say what the columns of the array of that name are.
    """

    arrays: dict[str, ArraySpec]
    class_names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    max_length: int | None = None
    properties: tuple[Property, ...] = ()

    def varying(self) -> tuple[str, ...]:
        """Names of the arrays whose first axis is the length, where lengths vary."""
        return tuple(name for name, array in self.arrays.items() if array.shape[:1] == (self.max_length,))

    def at_length(self, length: int) -> "Spec":
        """The same with examples of this length, where lengths vary."""
        arrays = {
            name: ArraySpec((length, *self.arrays[name].shape[1:]), self.arrays[name].dtype) for name in self.varying()
        }
        return dataclasses.replace(self, arrays=self.arrays | arrays)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict; `Spec.from_dict` gives back an equal Spec, also after a trip through JSON."""
        fields = dataclasses.asdict(self)
        fields["arrays"] = {
            name: {"shape": list(array.shape), "dtype": array.dtype} for name, array in self.arrays.items()
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Any) -> "Spec":
        """The Spec whose `to_dict` gave `fields`.

        Raises:
            ConfigError: they are not what `to_dict` gives.
        """
        try:
            arrays = {
                name: ArraySpec(tuple(array["shape"]), array["dtype"]) for name, array in fields["arrays"].items()
            }
            rest = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
            rest["properties"] = tuple(Property(**row) for row in fields.get("properties", ()))
            spec = cls(**{**rest, "arrays": arrays})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ConfigError(f"the spec of the data is damaged ({' '.join(str(error).split())}).") from None
        if problems := _problems(spec):
            raise ConfigError(f"the spec of the data is damaged: {' '.join(problems)}")
        return spec


def _problems(spec: Spec) -> list[str]:
    """What no source says."""
    sizes = [size for array in spec.arrays.values() for size in array.shape] + [spec.max_length or 1]
    numbers = [*spec.mean, *spec.std] if isinstance(spec.mean, tuple) and isinstance(spec.std, tuple) else [None]
    rules = {
        "sizes": all(isinstance(size, int) and 1 <= size < 2**31 for size in sizes),
        "types": all(np.dtype(array.dtype).kind in "biuf" for array in spec.arrays.values()),
        "class_names": isinstance(spec.class_names, tuple) and all(isinstance(n, str) for n in spec.class_names),
        "mean and std": all(isinstance(number, int | float) for number in numbers),
        "properties": all(_possible(row) for row in spec.properties) and _wide_enough(spec),
    }
    return [f"{name} are not what was written." for name, good in rules.items() if not good]


def _possible(row: Property) -> bool:
    numbers = isinstance(row.num_classes, int) and isinstance(row.scale, int | float)
    return isinstance(row.name, str) and numbers and 0 <= row.num_classes < 2**31 and row.scale > 0


def _wide_enough(spec: Spec) -> bool:
    """Whether the array has the columns of the properties, and the last one."""
    array = spec.arrays.get("properties")
    return not spec.properties or (array is not None and array.shape[1:] == (num_columns(spec.properties),))
