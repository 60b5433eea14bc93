# SPDX-License-Identifier: Apache-2.0
"""Folders of images, with or without masks as images: which mask belongs to which, and what they show.

Images at any depth. Masks have "mask" in the name of the file or of its folder; without this word, "image" and folders
they are named as their image: one file with the number of the object at each pixel (0 background), or one for each
object, `_0`, `_1`, ... (scene.png with scene_mask_0.png; images/a.png with masks/a.png; CLEVR_image_0.png with
CLEVR_mask_0_3.png), the first of which show the background (`background_masks`). Which of the two holds for all images.
"""

import pathlib
import re

import numpy as np
from PIL import Image

from perceiver_jax.data.image_folders import SUFFIXES, read_image
from perceiver_jax.data.scene_masks import objects_of, renumbered
from perceiver_jax.errors import ConfigError


def list_files(folder: pathlib.Path) -> list[tuple[pathlib.Path, list[pathlib.Path]]]:
    """Every image with its masks, by name.

    Raises:
        ConfigError: no images, a mask that belongs to none, or only some images have masks.
    """
    names = list_images(folder)
    images = {_key(name): (folder / name, []) for name in names if not _is_mask(name)}
    masks = [name for name in names if _is_mask(name)]
    if not images:
        raise ConfigError(f"{folder}: no images, got {len(masks)} masks: expected {', '.join(SUFFIXES[:3])} or others.")
    if len(images) + len(masks) < len(names):
        raise ConfigError(f"{folder}: images in different folders have the same name. Rename them.")
    for name in sorted(masks, key=_natural):
        whole = _key(name)
        owner = whole if whole in images else whole.rpartition("_")[0]
        if owner not in images:
            raise ConfigError(f"{folder / name}: a mask of no image. Name it as its image, with _mask_0, _mask_1, ...")
        images[owner][1].append(folder / name)
    bare = [file for file, own in images.values() if not own]
    if masks and bare:
        raise ConfigError(
            f"{bare[0]}: has no mask, as {len(bare)} of {len(images)} images; others have. Give all or none."
        )
    return [images[key] for key in sorted(images, key=_natural)]


def list_images(folder: pathlib.Path) -> list[str]:
    """Image files below a folder, masks too."""
    files = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    return [file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts)]


def _is_mask(name: str) -> bool:
    return "mask" in "/".join(pathlib.PurePosixPath(name).with_suffix("").parts[-2:]).lower()


def _key(name: str) -> str:
    """What an image and its masks have in common."""
    return "_".join(filter(None, re.split(r"_|images?|masks?", pathlib.PurePosixPath(name).stem, flags=re.IGNORECASE)))


def _natural(name: str) -> list:
    """Numbers by their value: 2 before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def in_planes(files: list[tuple[pathlib.Path, list[pathlib.Path]]], background: int) -> bool:
    """Whether the masks of `list_files` show an object each: some image has several, or their names are numbered.

    Args:
        background: how many masks of each image show none.

    Raises:
        ConfigError: so no image would have an object.
    """
    numbers = [mask for file, masks in files for mask in masks if _key(mask.name) != _key(file.name)]
    most = max(len(masks) for _, masks in files)
    if numbers and most <= background:
        raise ConfigError(
            f"{numbers[0]}: no image has more than {most} masks, all of them background: set "
            "--config.data.background_masks=0 if they show an object each; if they hold numbers, name them without _0."
        )
    return bool(numbers) or most > 1


def read_scene(
    file: pathlib.Path, masks: list[pathlib.Path], planes: bool, background: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Image and numbers of its objects; None without masks.

    Args:
        planes: whether masks show an object each.
        background: how many of the first masks show none.

    Raises:
        ConfigError: a file is broken, a mask has another size than the image, or the background is none.
    """
    image = read_image(file, None)
    if not masks:
        return image, None
    read = [_read_mask(mask, image.shape[:2]) for mask in masks]
    return image, objects_of(read, background, str(masks[0])) if planes else renumbered(read[0])


def _read_mask(file: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """(height, width) whole numbers.

    Raises:
        ConfigError: broken, in colour, or of another size than its image.
    """
    try:
        with Image.open(file) as image:
            mask = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{file}: cannot be read as an image ({' '.join(str(error).split())[-120:]}).") from error
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise ConfigError(f"{file}: a mask of mode {image.mode}: expected one channel (L, P, I or 1).")
    if mask.shape != size:
        raise ConfigError(
            f"{file}: {mask.shape[0]} x {mask.shape[1]} pixels: expected {size[0]} x {size[1]} as its image."
        )
    return mask
