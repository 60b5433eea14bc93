# SPDX-License-Identifier: Apache-2.0
"""Images as TFDS data sets in array_record files, written here and read without TensorFlow, also those of others.

Importing this module imports TFDS: do it where a set is prepared or read. Which folder is for `prepared`.
"""

import contextlib
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds

from perceiver_jax.data.cifar import LabelledImages
from perceiver_jax.data.image_arrays import labelled
from perceiver_jax.data.images_by_id import ImagesById
from perceiver_jax.data.prepared import prepare
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError

READ_AT_ONCE = 256  # examples
Examples = Iterable[tuple[np.ndarray, int]]


class PreparedImages(tfds.core.GeneratorBasedBuilder):
    """The builder; `problem` holds the error that ended it, which TFDS would wrap."""

    VERSION = tfds.core.Version("1.0.0")
    name = "prepared_images"
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(self, names: tuple[str, ...], shape: tuple[int, ...], splits: dict[str, Examples], folder):
        self.class_names, self.shape, self.examples = names, shape, splits
        self.problem: ConfigError | None = None
        super().__init__(data_dir=str(folder), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=self.shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES),
            "label": tfds.features.ClassLabel(names=list(self.class_names)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images by class.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self.examples}

    def _generate_examples(self, split: str):
        try:
            for index, (image, label) in enumerate(self.examples[split]):
                yield index, {"image": image, "label": int(label)}
        except ConfigError as error:
            self.problem = error
            raise


def write(
    folder: pathlib.Path, names: tuple[str, ...], shape: tuple[int, ...], splits: dict[str, Callable[[], Examples]]
) -> None:
    """Prepares a set in an empty folder: uint8 images of one shape, of each split what its function gives.

    Raises:
        ConfigError: an image is broken.
    """
    tfds.disable_progress_bar()
    builder = PreparedImages(names, shape, {split: make() for split, make in splits.items()}, folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download; there is none
            builder.download_and_prepare()
    except Exception:
        if builder.problem is not None:
            raise builder.problem from None
        raise


def write_source(folder: pathlib.Path, source: Source) -> pathlib.Path:
    """Prepares what a source gives in evaluation, all its splits, in a new folder.

    Returns:
        The folder that `tfds.builder_from_directory` opens; our reader opens this one and `folder`.

    Raises:
        ConfigError: no images of uint8, the folder is there already or cannot be written.
    """
    array = source.spec.arrays.get("image")
    if array is None or array.dtype != "uint8" or not source.spec.class_names:
        raise ConfigError("only images of uint8 with classes are written as a TFDS set: this config's data are others.")
    if folder.exists():
        raise ConfigError(f"{folder} is there already. Name a new folder, or delete it.")

    def examples(split: str) -> Iterator[tuple[np.ndarray, int]]:
        for ids in np.array_split(np.arange(count := source.num_examples(split)), -(-count // READ_AT_ONCE)):
            batch = source.load(split, ids, None)
            yield from zip(batch["image"], batch["label"], strict=True)

    splits = {split: functools.partial(examples, split) for split in source.splits}
    names, shape = source.spec.class_names, array.shape
    return find(prepare([folder.parent], folder.name, lambda place: write(place, names, shape, splits)))


def find(folder: pathlib.Path) -> pathlib.Path | None:
    """The folder of a prepared TFDS set: this one, or the newest version, configuration or set below it."""
    found = sorted(folder.glob("dataset_info.json")) or sorted(folder.glob("*/dataset_info.json"))
    found = found or sorted(folder.glob("*/*/dataset_info.json"))
    return found[-1].parent if found else None


def read(folder: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabelledImages]]:
    """Class names and splits of a prepared TFDS set of images with labels, into memory through Grain.

    Raises:
        ConfigError: it is damaged, or has no image and class label.
    """
    with _opened(folder) as (builder, image, label):
        sources = {split: builder.as_data_source(split=split) for split in builder.info.splits}
        where = f"{find(folder)}: {{}}".format
        splits = {split: _read_split(source, image, label, where(split)) for split, source in sources.items()}
        return tuple(builder.info.features[label].names), splits


def sizes(folder: pathlib.Path) -> tuple[tuple[int | None, ...], int]:
    """Shape of the images, None where it varies, and the number of examples in all splits.

    Raises:
        ConfigError: as `read`.
    """
    with _opened(folder) as (builder, image, _):
        return builder.info.features[image].shape, sum(split.num_examples for split in builder.info.splits.values())


def write_labels(folder: pathlib.Path, into: pathlib.Path) -> None:
    """SPLIT.npy: the labels of a prepared TFDS set, whose images are not decoded for it.

    Raises:
        ConfigError: as `read`.
    """
    with _opened(folder) as (builder, image, label):
        skipped = {image: tfds.decode.SkipDecoding()}
        for split in builder.info.splits:
            records = builder.as_data_source(split=split, decoders=skipped)
            np.save(into / f"{split}.npy", np.array([record[label] for record in records], np.int32))


def by_id(folder: pathlib.Path, labels: pathlib.Path) -> tuple[tuple[str, ...], dict[str, ImagesById]]:
    """Class names and splits of a prepared TFDS set, each image read and decoded whenever it is asked for.

    Args:
        labels: the folder that `write_labels` filled.

    Raises:
        ConfigError: as `read`; from an image that is read: its record is damaged.
    """
    with _opened(folder) as (builder, image, label):
        splits = {}
        for split in builder.info.splits:
            reader = _Reader(builder.as_data_source(split=split), image, f"{find(folder)}: {split}")
            splits[split] = ImagesById.all(reader, np.load(labels / f"{split}.npy"))
        return tuple(builder.info.features[label].names), splits


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Number of a record -> its image."""

    source: Any
    image: str
    where: str

    def __call__(self, number: int) -> np.ndarray:
        try:
            image = self.source[number][self.image]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{self.where}: record {number} is damaged ({reason}). Prepare the set again.") from error
        return np.asarray(image)


@contextlib.contextmanager
def _opened(folder: pathlib.Path) -> Iterator[tuple[tfds.core.DatasetBuilder, str, str]]:
    """The set, and the names of its image and class label; what fails while it is used is said in one line."""
    place = find(folder)
    try:
        builder = tfds.builder_from_directory(str(place))
        yield builder, *_features(builder.info.features, place)
    except ConfigError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{place}: the prepared set is damaged ({reason}). Delete it and prepare it again."
        ) from error


def _features(features, place: pathlib.Path) -> tuple[str, str]:
    """Names of the image and of the class label."""
    images = [name for name, feature in features.items() if len(feature.shape or ()) == 3]
    labels = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    label = "label" if "label" in labels else next(iter(labels), None)
    image = "image" if "image" in images else next(iter(images), None)
    if image is None or label is None:
        raise ConfigError(f"{place}: expected an image and a class label, got {', '.join(features)}.")
    return image, label


def _read_split(source, image: str, label: str, where: str) -> LabelledImages:
    records = grain.MapDataset.source(source).map(lambda record: (record[image], record[label]))
    images, labels = zip(*records, strict=True) if len(records) else ((), ())
    sizes = {np.shape(array) for array in images}
    if len(sizes) > 1:
        raise ConfigError(f"{where}: images of {len(sizes)} sizes, e.g. {sorted(sizes)[:2]}: expected one.")
    return labelled(np.stack(images), np.asarray(labels), where)
