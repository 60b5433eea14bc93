# SPDX-License-Identifier: Apache-2.0
"""Your own images for object discovery, with or without the true masks: a folder of images, or a .npz.

How files and arrays are named: `scene_folders`, `scene_arrays`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from perceiver_jax.data import randomness, stored_scenes
from perceiver_jax.data.prepared import fingerprint, prepare, roots
from perceiver_jax.data.scene_arrays import read_scenes
from perceiver_jax.data.scene_folders import in_planes, list_files, list_images, read_scene
from perceiver_jax.data.scene_masks import Scene, fitted, measured, objects_of, renumbered
from perceiver_jax.errors import ConfigError

Pair = tuple[np.ndarray, np.ndarray | None, str]
"""Image, numbers of objects, and where it comes from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnScenes(stored_scenes.StoredScenes):
    """Images, cut to `crop` or the square in their middle, resized to `image_size`, prepared once.

    Attributes:
        path: the folder, or the .npz.
        max_objects: the most an image may have; with masks only.
        background_masks: how many of an image's first masks are background (1 in CLEVR's, 0 where there are masks of
            objects alone), where each object has one.
        crop: rows and columns that are used, (top, bottom, left, right); CLEVR's are (29, 221, 64, 256).
        validation_fraction, test_fraction: share of the images.
        split_seed: chooses which.

    Raises:
        ConfigError: a value that cannot be; at the first use: no images, a broken one, a mask of another size, some
            images without masks, more objects than `max_objects`, a background that is none.
    """

    max_objects: int = 10
    background_masks: int = 1
    crop: Sequence[int] = ()
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        problems = []
        if min(self.test_fraction, self.validation_fraction) < 0 or self.test_fraction + self.validation_fraction >= 1:
            problems.append(
                f"test_fraction={self.test_fraction}, validation_fraction={self.validation_fraction}: expected 0 or "
                "more, together less than 1."
            )
        if not 1 <= self.max_objects <= 254:
            problems.append(f"max_objects={self.max_objects}: expected 1 to 254.")
        if self.background_masks < 0:
            problems.append(f"background_masks={self.background_masks}: expected 0 or more.")
        if self.crop and not (
            len(self.crop) == 4 and 0 <= self.crop[0] < self.crop[1] and 0 <= self.crop[2] < self.crop[3]
        ):
            problems.append(f"crop={self.crop}: expected top < bottom, left < right, or nothing.")
        if problems:
            raise ConfigError(" ".join(problems))

    def scenes(self, path: pathlib.Path) -> Iterator[tuple[str, Scene]]:
        """Every image with its split, the splits one after the other.

        Raises:
            ConfigError: see the class.
        """
        count, pair = self._pairs(path)
        shape = None
        for split, ids in self._split(count).items():
            for index in ids:
                scene = self._scene(*pair(index))
                shape = shape or scene.image.shape
                if scene.image.shape != shape:
                    raise ConfigError(
                        f"{pair(index)[2]}: {scene.image.shape[0]} pixels a side: expected {shape[0]} as the first. "
                        "Bring all to one size with --config.data.image_size=N"
                    )
                yield split, scene

    def _split(self, count: int) -> dict[str, np.ndarray]:
        """Which images each split has, at least one for training."""
        order = randomness.permutation(count, self.split_seed, "own scenes")
        num_test, num_validation = (round(share * count) for share in (self.test_fraction, self.validation_fraction))
        num_test = min(num_test, count - 1)
        num_validation = min(num_validation, count - 1 - num_test)
        parts = np.split(order, [num_test, num_test + num_validation])
        return {name: np.sort(part) for name, part in zip(("test", "validation", "train"), parts, strict=True)}

    def _scene(self, image: np.ndarray, objects: np.ndarray | None, where: str) -> Scene:
        if self.crop and (self.crop[1] > image.shape[0] or self.crop[3] > image.shape[1]):
            raise ConfigError(f"{where}: {image.shape[0]} x {image.shape[1]} pixels: too few for crop={self.crop}.")
        image = fitted(image, self.crop, self.image_size, True)
        if objects is None:
            return Scene(image, None, None)
        if objects.max(initial=0) > self.max_objects:
            raise ConfigError(
                f"{where}: {objects.max()} objects: expected at most max_objects={self.max_objects}. "
                f"Set --config.data.max_objects={objects.max()} or more."
            )
        objects = fitted(objects, self.crop, self.image_size, False)
        return Scene(image, objects, measured(image, objects, self.max_objects))

    def _window(self, height: int, width: int) -> Sequence[int]:
        """`crop`, where it lies within the image."""
        return self.crop if self.crop and self.crop[1] <= height and self.crop[3] <= width else ()

    def _pairs(self, path: pathlib.Path) -> tuple[int, Callable[[int], Pair]]:
        """How many images there are, and what gives each."""
        background = self.background_masks
        if path.suffix == ".npz":
            images, masks = read_scenes(path)
            return len(images), lambda i: (
                images[i],
                _array_objects(masks[i], background, f"{path}: image {i}") if masks is not None else None,
                f"{path}: image {i}",
            )
        files = list_files(path)
        planes = in_planes(files, background)
        return len(files), lambda i: (*read_scene(*files[i], planes, background), str(files[i][0]))

    def _prepared(self) -> pathlib.Path:
        path = pathlib.Path(self.path).expanduser()
        if not path.exists():
            raise ConfigError(f"{path}: no such folder or .npz. Set --config.data.path to that of your images.")
        folder, files = (path.parent, [path.name]) if path.is_file() else (path, list_images(path))
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        decides = {name: value for name, value in fields.items() if name not in ("path", "prepared_path", "seed")}
        name = f"scenes-{fingerprint(folder, files, **decides)}"
        return prepare(
            roots(path, self.prepared_path), name, lambda folder: stored_scenes.write(folder, self.scenes(path))
        )


def _array_objects(planes: np.ndarray, background: int, where: str) -> np.ndarray:
    """The numbers of an image's objects, from its masks in a .npz; a single one holds numbers."""
    return objects_of(list(planes), background, where) if len(planes) > 1 else renumbered(planes[0])
