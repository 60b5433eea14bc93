# SPDX-License-Identifier: Apache-2.0
"""The published multi-object sets with masks: CLEVR, Multi-dSprites, Tetrominoes, Objects Room (Kabra et al. 2019).

https://github.com/google-deepmind/multi_object_datasets: one GZIP TFRecord file each, without splits and without
access by number. It is read once, up to its end, and prepared (`stored_scenes`); the splits are ranges of the file.
"""

import dataclasses
import logging
import math
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from perceiver_jax.data import stored_scenes
from perceiver_jax.data.prepared import fingerprint, prepare, roots
from perceiver_jax.data.properties import Property, encoded
from perceiver_jax.data.scene_masks import Scene, fitted, measured, numbered
from perceiver_jax.data.scenes import ATTRIBUTES
from perceiver_jax.data.tfrecord import parse_example, records
from perceiver_jax.errors import ConfigError
from perceiver_jax.invocation import own_command

LOG = logging.getLogger(__name__)
BUCKET = "https://storage.googleapis.com/multi-object-datasets"
TOLD_EVERY = 5_000  # records
LARGEST = 1e3  # coordinate or code of an object: those of CLEVR are within 3


@dataclasses.dataclass(frozen=True)
class Published:
    """A set as it was published.

    Attributes:
        file: in the bucket.
        image: shape.
        entities: masks of an image, the background among them.
        entities_last: whether the masks are (height, width, entities, 1) instead of entities first.
        background: how many of the first masks are.
        crop: rows and columns that are used; empty for all.
        num_train: the first records, as Locatello et al. 2020 split the sets.
        angle: the feature that holds angles in radians.
        properties: features that are the targets of set prediction; coordinates are from -scale / 2 to scale / 2,
            classes from 1 on.
    """

    file: str
    image: tuple[int, int, int]
    entities: int
    entities_last: bool = False
    background: int = 1
    crop: tuple[int, ...] = ()
    num_train: int = 60_000
    angle: str = ""
    properties: tuple[Property, ...] = ()


CLEVR = (
    *(Property(axis, scale=6.0) for axis in "xyz"),
    *(Property(*each) for each in (("size", 2), ("material", 2), ("shape", 3), ("color", 8))),
)
SPRITES = {"entities_last": True, "angle": "orientation"}
ROOM = {"image": (64, 64, 3), "background": 4}  # sky, floor, two walls; its test sets have 922 records
PUBLISHED = {
    "clevr_with_masks": Published(
        "clevr_with_masks/clevr_with_masks_train.tfrecords",
        (240, 320, 3),
        11,
        crop=(29, 221, 64, 256),
        num_train=70_000,
        properties=CLEVR,
    ),
    "multi_dsprites_binarized": Published(
        "multi_dsprites/multi_dsprites_binarized.tfrecords", (64, 64, 1), 4, **SPRITES
    ),
    "multi_dsprites_colored_on_grayscale": Published(
        "multi_dsprites/multi_dsprites_colored_on_grayscale.tfrecords", (64, 64, 3), 6, **SPRITES
    ),
    "multi_dsprites_colored_on_colored": Published(
        "multi_dsprites/multi_dsprites_colored_on_colored.tfrecords", (64, 64, 3), 5, **SPRITES
    ),
    "tetrominoes": Published("tetrominoes/tetrominoes_train.tfrecords", (35, 35, 3), 4),
    "objects_room": Published("objects_room/objects_room_train.tfrecords", entities=7, **ROOM),
    **{
        f"objects_room_{name}": Published(
            f"objects_room/objects_room_test_{name}.tfrecords", entities=entities, num_train=282, **ROOM
        )
        for name, entities in (("empty_room", 4), ("six_objects", 10), ("identical_color", 10))
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiObject(stored_scenes.StoredScenes):
    """A published file as a source.

    Attributes:
        path: the .tfrecords file, or the folder it lies in.
        dataset: which set it is, a name of `PUBLISHED`.
        max_objects: scenes with more are left out, by the file's `visibility` (6: CLEVR6); None for all.
        num_train: how many records of the file, from the first on, training scenes are taken from; None as published
            (70,000 of CLEVR, else 60,000; 282 of Objects Room's test sets, which leaves 320 for each other split).
        full_frame: the whole picture, pressed into a square of `image_size` (as published for set prediction), and not
            the part that is used for object discovery.
        num_test: the next scenes, 320 as published.
        num_validation: the next ones behind these.

    Raises:
        ConfigError: an unknown set; at the first use: no file, a damaged record, fewer scenes than asked for.
    """

    dataset: str = "clevr_with_masks"
    max_objects: int | None = None
    full_frame: bool = False
    num_train: int | None = None
    num_validation: int = 320
    num_test: int = 320

    def __post_init__(self):
        super().__post_init__()
        if self.dataset not in PUBLISHED:
            raise ConfigError(f"dataset={self.dataset!r}: expected one of {', '.join(PUBLISHED)}.")
        problems = [
            f"{name}={getattr(self, name)}: expected at least {least}."
            for name, least in {"max_objects": 1, "num_train": 1, "num_validation": 0, "num_test": 0}.items()
            if getattr(self, name) is not None and getattr(self, name) < least
        ]
        if problems:
            raise ConfigError(" ".join(problems))

    def scenes(self, file: pathlib.Path) -> Iterator[tuple[str, Scene]]:
        """Every scene that is used, with its split, in the order of the file; reads on to the file's end.

        Raises:
            ConfigError: see the class.
        """
        published = PUBLISHED[self.dataset]
        num_train = published.num_train if self.num_train is None else self.num_train
        left = {"train": math.inf, "test": self.num_test, "validation": self.num_validation}
        count = kept = 0
        for count, record in enumerate(records(file), 1):
            split = "train" if count <= num_train else next((name for name in ("test", "validation") if left[name]), "")
            scene = split and self._scene(published, record, f"{file}: record {count - 1}")
            if scene:
                left[split] -= 1
                kept += split == "train"
                yield split, scene
            if not count % TOLD_EVERY:
                LOG.info("%s: %s records read", file.name, f"{count:,}")
        if not kept or count < num_train or left["test"] or left["validation"]:
            raise ConfigError(
                f"{file}: ends after {count:,} records, {kept} of them for training: expected num_train={num_train:,} "
                f"records, then num_test={self.num_test} and num_validation={self.num_validation} scenes. Set fewer, "
                f"e.g. --config.data.num_train=N, or fetch the file again."
            )

    def _scene(self, published: Published, record: bytes, where: str) -> Scene | None:
        """A record's scene; None if it has too many objects."""
        features = parse_example(record, where)
        height, width, channels = published.image
        image = _tensor(features, "image", published.image, where).repeat(3 // channels, 2)
        order = (2, 0, 1) if published.entities_last else (0, 1, 2)
        shape = tuple((published.entities, height, width)[order.index(axis)] for axis in range(3))
        masks = _tensor(features, "mask", shape, where).transpose(order)[published.background :]
        seen = masks.any((1, 2))
        if "visibility" in features:
            seen = _tensor(features, "visibility", (published.entities,), where)[published.background :] > 0.5
        most = min(self.max_objects or len(masks) or 1, max(len(masks), 1))  # an empty room has room for one
        if seen.sum() > most:
            return None
        crop = (0, height, 0, width) if self.full_frame else published.crop
        objects = numbered(masks[seen]) if seen.any() else np.zeros((height, width), np.uint8)
        objects = fitted(objects, crop, self.image_size, False)
        image = fitted(image, crop, self.image_size, True)
        attributes = measured(image, objects, most)
        for column, feature, first in (("shape", "shape", 1.0), ("angle", published.angle, 0.0)):
            if feature in features:
                codes = _tensor(features, feature, (published.entities,), where)[published.background :][seen]
                _check_range(codes, -LARGEST, LARGEST, f"{where}: {feature}")
                attributes[: len(codes), ATTRIBUTES.index(column)] = (codes - first) * attributes[: len(codes), 0]
        if not published.properties:
            return Scene(image, objects, attributes)
        entities = np.flatnonzero(seen) + published.background
        values = [_values(features, each, published.entities, entities, most, where) for each in published.properties]
        return Scene(image, objects, attributes, encoded(published.properties, values, attributes[:, 0]))

    def _window(self, height: int, width: int) -> Sequence[int]:
        """All of it in full frames; the part that is used, of an image as large as those of the file."""
        published = PUBLISHED[self.dataset]
        if self.full_frame:
            return 0, height, 0, width
        return published.crop if (height, width) == published.image[:2] else ()

    def _properties(self) -> tuple[Property, ...]:
        return PUBLISHED[self.dataset].properties

    def _prepared(self) -> pathlib.Path:
        path = pathlib.Path(self.path).expanduser()
        file = self._file(path)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        decides = {name: value for name, value in fields.items() if name not in ("path", "prepared_path", "seed")}
        name = f"{self.dataset}-{fingerprint(file.parent, [file.name], **decides)}"
        return prepare(
            roots(path, self.prepared_path), name, lambda folder: stored_scenes.write(folder, self.scenes(file))
        )

    def _file(self, path: pathlib.Path) -> pathlib.Path:
        if path.is_file():
            return path
        published = pathlib.PurePosixPath(PUBLISHED[self.dataset].file)
        found = sorted(path.glob("*.tfrecords"))
        found = [file for file in found if file.name == published.name] or found
        if len(found) == 1:
            return found[0]
        problem = f"several: {', '.join(file.name for file in found)}. Set the path to one" if found else "none here"
        again = own_command() or "python -m perceiver_jax.main --config=configs/slot_attention.py:clevr6"
        place = f"into {path}"
        if path.suffix:
            place = f"into {path.parent}" + (f" as {path.name}" if path.name != published.name else "")
        raise ConfigError(
            f"{path}: expected one .tfrecords file, got {problem}. Fetch {BUCKET}/{published} {place} and run: {again}"
        )


def _values(
    features: dict[str, np.ndarray], of: Property, count: int, entities: np.ndarray, most: int, where: str
) -> np.ndarray:
    """A property of these entities, as `properties.encoded` takes it, filled up to `most`.

    Raises:
        ConfigError: a class that there is not, a coordinate that cannot be.
    """
    values = _tensor(features, of.name, (count,), where)[entities].astype(np.float32)
    low, high = (1, of.num_classes) if of.num_classes else (-LARGEST, LARGEST)
    _check_range(values, low, high, f"{where}: {of.name}")
    values = values - 1 if of.num_classes else values / of.scale + 0.5
    return np.pad(values, (0, most - len(values)))


def _check_range(values: np.ndarray, low: float, high: float, what: str) -> None:
    """Raises ConfigError where a value is beyond these, or is none."""
    if not ((values >= low) & (values <= high)).all():
        raise ConfigError(f"{what}: expected {low:g} to {high:g}, got {', '.join(map(str, values))}.")


def _tensor(features: dict[str, np.ndarray], name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A feature in its shape.

    Raises:
        ConfigError: it is missing, or has another number of values: another set, or another number of entities.
    """
    values = features.get(name)
    if values is None or values.size != math.prod(shape):
        expected = " x ".join(map(str, shape))
        got = f"{values.size:,} values" if values is not None else ", ".join(sorted(features)) or "nothing"
        raise ConfigError(
            f"{where}: {name}: expected {expected} values, got {got}. Is it the set that --config.data.dataset names?"
        )
    return values.reshape(shape)
