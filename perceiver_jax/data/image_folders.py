# SPDX-License-Identifier: Apache-2.0
"""Folders of images by class: CLASS/*.png, or the same below train, val (validation) and test.

Files are decoded once and prepared (`prepared_images`), or each time they are needed (`by_id`).
"""

import dataclasses
import logging
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from perceiver_jax.data import crops
from perceiver_jax.data.images_by_id import ImagesById
from perceiver_jax.data.layouts import inner_folders
from perceiver_jax.errors import ConfigError

LOG = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff")
SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes of 8 bits, which become RGB
POLICIES = ("error", "skip")


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """A set of image files.

    Attributes:
        folder: what `files` are relative to.
        class_names: by label.
        files: of each split, (path, label) in a fixed order.
    """

    folder: pathlib.Path
    class_names: tuple[str, ...]
    files: dict[str, tuple[tuple[str, int], ...]]


def class_folders_lie_in(folder: pathlib.Path) -> bool:
    """Whether there are images in folders by class."""
    top = next((folder / name for name in SPLITS["train"] if (folder / name).is_dir()), folder)
    return any(_images(inner) for inner in inner_folders(top))


def list_files(folder: pathlib.Path) -> ImageFiles:
    """The files of each split; classes by name.

    Raises:
        ConfigError: one class, or a class that the training split lacks.
    """
    tops = {split: next((folder / n for n in names if (folder / n).is_dir()), None) for split, names in SPLITS.items()}
    if tops["train"] is None:
        tops = {"train": folder}
    by_class = {
        split: {inner.name: files for inner in inner_folders(top) if (files := _images(inner))}
        for split, top in tops.items()
        if top is not None
    }
    names = tuple(sorted(by_class["train"]))
    if len(names) < 2:
        raise ConfigError(f"{folder}: one class, {', '.join(names)}: expected a folder for each of several.")
    for split, found in by_class.items():
        if unseen := sorted(set(found) - set(names)):
            raise ConfigError(f"{folder}: {split} has classes that train lacks: {', '.join(unseen)}.")
    label = {name: k for k, name in enumerate(names)}
    files = {
        split: tuple(
            (file.relative_to(folder).as_posix(), label[name]) for name in sorted(found) for file in found[name]
        )
        for split, found in by_class.items()
        if found
    }
    return ImageFiles(folder, names, files)


def decoded(files: ImageFiles, split: str, image_size: int | None, policy: str) -> Iterator[tuple[np.ndarray, int]]:
    """(image, label) of every file of a split, all of one size.

    Args:
        image_size: files of another size are cropped to a square at the centre and resized; None: all must have the
            size of the first.
        policy: "error", or "skip" what cannot be read, counted.

    Raises:
        ConfigError: a file cannot be read, or has another size or mode.
    """
    size, skipped = None, []
    for name, label in files.files[split]:
        try:
            image = read_or_advise(files.folder / name, image_size)
        except ConfigError as error:
            if policy == "error":
                raise
            skipped.append(str(error))
            continue
        size = size or image.shape
        if image.shape != size:
            raise ConfigError(
                f"{files.folder / name}: {image.shape[0]} x {image.shape[1]} pixels: expected {size[0]} x {size[1]} as "
                "the first. Bring all to one size with --config.data.image_size=N"
            )
        yield image, label
    if skipped:
        LOG.warning("%s: skipped %d of %d images, first %s", split, len(skipped), len(files.files[split]), skipped[0])


def by_id(files: ImageFiles) -> dict[str, ImagesById]:
    """The splits, each image read and decoded whenever it is asked for."""

    def split_by_id(part: tuple[tuple[str, int], ...]) -> ImagesById:
        names = [name for name, _ in part]
        return ImagesById.all(lambda i: read_or_advise(files.folder / names[i], None), [label for _, label in part])

    return {split: split_by_id(part) for split, part in files.files.items()}


def without_bad(files: ImageFiles) -> ImageFiles:
    """The files that can be decoded, for which each is; how many are left out is said."""
    kept = {}
    for split, part in files.files.items():
        problems = [_problem(files.folder / name) for name, _ in part]
        kept[split] = tuple(file for file, problem in zip(part, problems, strict=True) if not problem)
        if bad := [problem for problem in problems if problem]:
            LOG.warning("%s: skipped %d of %d images, first %s", split, len(bad), len(part), bad[0])
    return dataclasses.replace(files, files=kept)


def num_bytes(files: ImageFiles, image_size: int | None) -> int:
    """What all images take as arrays, if each is as large as the first one."""
    if image_size is not None:
        height = width = image_size
    else:
        readable = (name for name, _ in files.files["train"] if not _problem(files.folder / name))
        height, width = read_image(files.folder / next(readable, files.files["train"][0][0]), None).shape[:2]
    return 3 * height * width * sum(map(len, files.files.values()))


def _problem(file: pathlib.Path) -> str:
    try:
        read_image(file, None)
    except ConfigError as error:
        return str(error)
    return ""


def read_or_advise(file: pathlib.Path, image_size: int | None) -> np.ndarray:
    """`read_image`, whose error says how to go on without the file."""
    try:
        return read_image(file, image_size)
    except ConfigError as error:
        raise ConfigError(f"{error} Or leave such files out: --config.data.bad_images=skip") from error


def read_image(file: pathlib.Path, image_size: int | None, mode: str = "RGB") -> np.ndarray:
    """(height, width, 3) uint8; see `decoded`.

    Args:
        mode: what the pixels become: "RGB", "RGBA" (4 channels) or "L" (1 channel).

    Raises:
        ConfigError: it is broken, or not of 8 bits a channel.
    """
    try:
        with Image.open(file) as image:
            if image.mode not in CONVERTED:
                raise ConfigError(f"{file}: mode {image.mode}: expected 8 bits a channel ({', '.join(CONVERTED)}).")
            image = image.convert("RGBA").convert(mode) if image.mode in ("P", "PA", "LA") else image.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[-120:]
        raise ConfigError(f"{file}: cannot be read as an image ({reason}).") from error
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if image_size is None or pixels.shape[:2] == (image_size, image_size):
        return pixels
    size = (image_size, image_size)
    return crops.framed(pixels, crops.central_window(*pixels.shape[:2], size), size)


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
    return [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
