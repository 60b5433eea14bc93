# SPDX-License-Identifier: Apache-2.0
"""Sources whose files are read at the first use, once, and that pickle without what was read."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

_READING = threading.RLock()  # also when several threads ask first; a factory may ask another source


class ReadOnce:
    """A subclass says in `_content` what there is to read; `_read` gives it, from memory after the first time."""

    def _content(self) -> Any:
        """Reads it all."""
        raise NotImplementedError

    def _read(self) -> Any:
        with _READING:
            if "_kept" not in self.__dict__:
                self.__dict__["_kept"] = self._content()
            return self.__dict__["_kept"]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


class LabelledSplits(ReadOnce):
    """Splits that are there with a `label` for each of their examples."""

    def _parts(self) -> Mapping[str, Any]:
        """Split -> what has its `label`."""
        return self._read()[1]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._parts())

    def num_examples(self, split: str) -> int:
        """Size of a split."""
        return len(self._parts()[split].label)

    def labels(self, split: str) -> np.ndarray:
        """Class of every example of a split."""
        return self._parts()[split].label
