# SPDX-License-Identifier: Apache-2.0
"""The forms in which a set of images may lie in a folder, and how each that needs no preparation is read."""

import dataclasses
import pathlib
from collections.abc import Callable

from perceiver_jax.data.cifar import LabelledImages, read_cifar, version
from perceiver_jax.data.image_arrays import arrays_lie_in, idx_lie_in, read_arrays, read_idx
from perceiver_jax.data.image_folders import class_folders_lie_in
from perceiver_jax.data.images_by_id import ImagesById
from perceiver_jax.data.labels import check_labels
from perceiver_jax.errors import ConfigError

Content = tuple[tuple[str, ...], dict[str, LabelledImages | ImagesById]]


@dataclasses.dataclass(frozen=True)
class Form:
    """Attributes:
    expected: what it looks like, for errors.
    lies_in: whether a folder holds it.
    read: class names and splits, into memory; None where that depends on more than the folder (`image_set`).
    """

    expected: str
    lies_in: Callable[[pathlib.Path], bool]
    read: Callable[[pathlib.Path], Content] | None


FORMS = {
    "cifar": Form("an official CIFAR folder", lambda folder: version(folder) is not None, read_cifar),
    "tfds": Form(
        "a prepared TFDS set",
        lambda folder: any(any(folder.glob(f"{depth}dataset_info.json")) for depth in ("", "*/", "*/*/")),
        None,
    ),
    "arrays": Form("a .npz or .npy files with train_images and train_labels", arrays_lie_in, read_arrays),
    "idx": Form("MNIST's idx files", idx_lie_in, read_idx),
    "classes": Form("images in a folder for each class", class_folders_lie_in, None),
}


def form_of(folder: pathlib.Path) -> str:
    """The form of the set in this very folder; "" for none."""
    return next((name for name, form in FORMS.items() if form.lies_in(folder)), "")


def checked(content: Content, where: pathlib.Path) -> Content:
    """The content of a set, if labels and sizes agree.

    Raises:
        ConfigError: labels out of range, a class that training lacks, splits of different size.
    """
    names, splits = content
    check_labels({split: part.label for split, part in splits.items()}, names, where)
    for split, part in splits.items():
        if part.shape != splits["train"].shape:
            raise ConfigError(
                f"{where}: {split} has images of shape {part.shape}: expected {splits['train'].shape} as in train."
            )
    return content
