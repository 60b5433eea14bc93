# SPDX-License-Identifier: Apache-2.0
"""Examples from any Python object with `__len__` and `__getitem__`: its function is found, called, and checked.

Called with "train", "validation" or "test" the function returns the examples of that split, or None where there are
none: those of validation and test are then taken from train. An example is a dict: `input`, an array; `label`, an
integer from 0; and for sequences, if you like, `mask`, 1 for each real step. Class names are the attribute
`class_names` of what is returned for "train", or numbers.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import pathlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perceiver_jax.data.labels import check_labels, numbered
from perceiver_jax.data.splits import SPLITS, carved
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs of one split, each an array, and their labels, int32."""

    inputs: list[np.ndarray]
    label: np.ndarray

    def select(self, chosen: np.ndarray) -> "Examples":
        """Those that are marked."""
        return Examples([self.inputs[i] for i in np.flatnonzero(chosen)], self.label[chosen])


def read_own(factory: str, fractions: dict[str, float], split_seed: int) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """Class names and splits of a factory's examples, those of `fractions` taken from train where it has none.

    Raises:
        ConfigError: names the example that is wrong, or the line of the factory's code that failed.
    """
    make = find_factory(factory)
    splits, names = {}, ()
    for split in SPLITS:
        with _their_code(f"{factory}({split!r})"):
            objects = make(split)
            number = 0 if objects is None else len(objects)
            names = names or tuple(map(str, getattr(objects, "class_names", ())))
        if number:
            splits[split] = _examples(objects, number, factory, split)
        elif split == "train":
            raise ConfigError(f"{factory}: has no examples for 'train': expected at least one.")
    names = names or numbered((part.label for part in splits.values()), factory)
    check_labels({split: part.label for split, part in splits.items()}, names, factory)
    return names, carved(splits, fractions, split_seed)


def find_factory(name: str) -> Callable[[str], Any]:
    """The function that `FILE.py:NAME` or `package.module:NAME` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            file = pathlib.Path(place).expanduser()
            spec = importlib.util.spec_from_file_location(file.stem, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        return getattr(module, attribute)
    except Exception as error:  # whatever the code of that file raises
        raise ConfigError(
            f"factory={name!r} cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}). "
            "Write FILE.py:NAME or module:NAME, and mend that file."
        ) from error


@contextlib.contextmanager
def _their_code(what: str) -> Iterator[None]:
    """Code that is not ours may raise anything; ConfigError with its place."""
    try:
        yield
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{what} failed with {type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}, line "
            f"{frame.lineno}). Mend that line."
        ) from error


def _examples(objects: Any, number: int, factory: str, split: str) -> Examples:
    inputs, labels = [], []
    for i in range(number):
        where = f"{factory}: example {i} of {split}"
        with _their_code(where):
            example = objects[i]
        if not isinstance(example, dict) or not {"input", "label"} <= example.keys():
            got = ", ".join(map(str, example)) if isinstance(example, dict) else type(example).__name__
            raise ConfigError(f"{where}: expected a dict with input and label, got {got}.")
        inputs.append(_input(example, where))
        labels.append(_label(example["label"], where))
    return Examples(inputs, np.array(labels, np.int32))


def _input(example: dict[str, Any], where: str) -> np.ndarray:
    """Its array, the real steps of it."""
    try:
        array = np.asarray(example["input"])
    except ValueError:
        raise ConfigError(f"{where}: its input is ragged: expected as many features at every step.") from None
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named
            array = array.astype(np.float32)
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ConfigError(f"{where}: its input is not all finite numbers ({array.dtype}).")
    if "mask" in example:
        mask = np.asarray(example["mask"])
        if mask.shape != array.shape[:1]:
            raise ConfigError(f"{where}: its mask has shape {mask.shape}: expected {array.shape[:1]}.")
        array = array[mask.astype(bool)]
    if not array.size:
        raise ConfigError(f"{where}: its input is empty, of shape {array.shape}: expected at least one real step.")
    return array


def _label(value: Any, where: str) -> int:
    label = np.asarray(value)
    if label.shape != () or label.dtype.kind not in "iu" or not 0 <= label < 2**31:
        raise ConfigError(f"{where}: its label is {value!r}: expected an integer from 0.")
    return int(label)
