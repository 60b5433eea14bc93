# SPDX-License-Identifier: Apache-2.0
"""The examples whose attention a run kept, ready to be drawn: images, clouds, sequences, or text by its characters."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.text import FIRST_BYTE, decode
from perceiver_jax.errors import ConfigError
from perceiver_jax.figures.attention_views import CloudView, ImageView, SequenceView, TextView
from perceiver_jax.reports import attention_maps

NEW_LINE, UNSEEN = "↵", "·"


@dataclasses.dataclass(frozen=True)
class Examples:
    """Attributes:
    view: draws them (`figures.attention_views`).
    labels: the class of each.
    mask: (examples, drawn inputs), 1 for real; None where all are.
    objects: (examples, inputs), the share of the object in each input, where it is known.
    texts: of text, one sign for each character.
    """

    view: Any
    labels: np.ndarray | None
    mask: np.ndarray | None = None
    objects: np.ndarray | None = None
    texts: tuple[str, ...] = ()
    starts: tuple[np.ndarray, ...] = ()

    def drawn(self, maps: np.ndarray) -> np.ndarray:
        """(examples, inputs) -> (examples, drawn inputs): of text, the attention to all bytes of a character."""
        if not self.starts:
            return maps
        summed = np.zeros((len(maps), max(map(len, self.starts))))
        for k, starts in enumerate(self.starts):
            summed[k, : len(starts)] = np.add.reduceat(maps[k], starts)
        return summed


def read(run: Path) -> Examples:
    """Those of a run.

    Raises:
        ConfigError: there are none, or nobody knows how their inputs lie in a picture.
    """
    return of(attention_maps.read_about(run), attention_maps.read_examples(run))


def of(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Examples:
    """Examples from what `about.json` and `examples.npz` hold of them; as `read`."""
    inputs, mask, labels = arrays[about["array"]], arrays.get("mask"), arrays["label"]
    if about["kind"] == "image":
        return _images(about, inputs, arrays.get("object"), labels)
    if about["kind"] == "points":
        return Examples(CloudView(inputs), labels)
    if about["kind"] == "text":
        return _texts(inputs, np.ones(inputs.shape, bool) if mask is None else mask.astype(bool), labels)
    return Examples(SequenceView(inputs, mask), labels, mask)


def _images(
    about: dict[str, Any], images: np.ndarray, objects: np.ndarray | None, labels: np.ndarray | None
) -> Examples:
    if about["grid"] is None:
        raise ConfigError(f"the inputs of images of shape {images.shape[1:]} do not lie on a grid: expected patches.")
    order = None if about["permutation"] is None else np.asarray(about["permutation"])
    view = ImageView(images, about["grid"], about["patch"], order)
    return Examples(view, labels, objects=None if objects is None else view.on_inputs(objects))


def _texts(tokens: np.ndarray, mask: np.ndarray, labels: np.ndarray | None) -> Examples:
    pairs = [characters(row[real]) for row, real in zip(tokens, mask, strict=True)]
    texts, starts = tuple(text for text, _ in pairs), tuple(starts for _, starts in pairs)
    real = np.arange(max(map(len, texts))) < np.asarray([len(text) for text in texts])[:, None]
    return Examples(TextView(texts), labels, real, texts=texts, starts=starts)


def characters(tokens: np.ndarray) -> tuple[str, np.ndarray]:
    """The text of byte tokens, one sign for each character, and where each character begins."""
    raw = np.where(tokens >= FIRST_BYTE, tokens - FIRST_BYTE, 0)
    starts = np.flatnonzero((raw & 0xC0) != 0x80)  # not the second and later bytes of a character
    starts = starts if len(starts) and starts[0] == 0 else np.append(0, starts)
    ends = np.append(starts[1:], len(tokens))
    return "".join(_sign(decode(tokens[start:end])) for start, end in zip(starts, ends, strict=True)), starts


def _sign(character: str) -> str:
    if character == "\n":
        return NEW_LINE
    return character[0] if character and character[0].isprintable() else UNSEEN


def shown(texts: Sequence[str], signs: dict[str, str]) -> list[str]:
    """The texts with characters that no font has replaced."""
    return ["".join(signs.get(character, character) for character in text) for text in texts]
