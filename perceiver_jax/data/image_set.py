# SPDX-License-Identifier: Apache-2.0
"""Images with one label each: a source for every form in which such a set may lie (`image_forms` lists them)."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from perceiver_jax.data.cifar import MD5, LabelledImages
from perceiver_jax.data.fetch import Wanted, find_set
from perceiver_jax.data.image_arrays import read_arrays
from perceiver_jax.data.image_folders import POLICIES, ImageFiles, by_id, decoded, list_files, num_bytes, without_bad
from perceiver_jax.data.image_forms import FORMS, Content, checked, form_of
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.images_by_id import ImagesById
from perceiver_jax.data.prepared import fingerprint, prepare, roots
from perceiver_jax.data.read_once import LabelledSplits
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import carved, check_fraction
from perceiver_jax.errors import ConfigError

SAMPLE = 1024  # images whose statistics stand for a set that is not read as a whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet(LabelledSplits, ImageAugmentation):
    """Images, read into memory at the first use; pickles without them.

    Where they would take more than `memory_gigabytes`, and single files of which windows are used, each image is read
    and decoded when it is needed (`pipeline.num_workers` helps); this takes an `image_size`. Arrays and CIFAR's files
    are always read.

    Attributes:
        path: the folder with the files, or the one above it, or an archive of them, or a .npz. It is only read, unless
            there is nothing: then the set is downloaded into it.
        validation_fraction: share of each class of the training part that becomes the validation split, where the set
            has none of its own.
        test_fraction: the same for the test split.
        split_seed: chooses which.
        validation_is_test: the set's own validation split is the test split, as is usual with ImageNet.
        mean, std: of each channel, by which the model normalises; (): those of the training split as it is stored or,
            where images are read one by one, of 1,024 of them as they are evaluated.
        memory_gigabytes: see above; 0: nothing is kept.
        bad_images: "error", or "skip" files that cannot be read, counted.
        prepared_path: where prepared and unpacked files go; default `path`.prepared or, where that cannot be written,
            perceiver_jax in the user's cache folder.
        address: what is downloaded, a .zip or .tar.gz; "": nothing.
        download: whether to.

    Raises:
        ConfigError: at the first use: nothing there and no network, a broken file or image.
    """

    path: str
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0
    validation_is_test: bool = False
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    memory_gigabytes: float = 4.0
    bad_images: str = "error"
    prepared_path: str = ""
    address: str = ""
    download: bool = True

    def __post_init__(self):
        super().__post_init__()
        check_fraction(self, "validation_fraction")
        check_fraction(self, "test_fraction", zero=False)
        if len(self.mean) != len(self.std) or any(std <= 0 for std in self.std):
            raise ConfigError(f"mean={self.mean}, std={self.std}: expected one of each for each channel, std above 0.")
        if self.memory_gigabytes < 0:
            raise ConfigError(f"memory_gigabytes={self.memory_gigabytes}: expected 0 or more.")
        if self.bad_images not in POLICIES:
            raise ConfigError(f"bad_images={self.bad_images!r}: expected one of {', '.join(POLICIES)}.")

    @property
    def spec(self) -> Spec:
        return self._read()[0]

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        content, ids = self._read()[1][split], np.asarray(ids)
        return {"image": self.apply(content.images(ids), ids, epoch), "label": content.label[ids]}

    def _content(self) -> tuple[Spec, dict[str, LabelledImages | ImagesById]]:
        names, splits = self._find()
        splits = carved(splits, {"test": self.test_fraction, "validation": self.validation_fraction}, self.split_seed)
        return self._described(names, splits["train"]), splits

    def _described(self, names: tuple[str, ...], train: LabelledImages | ImagesById) -> Spec:
        if train.shape is None and self.image_size is None:
            raise ConfigError(
                f"{self.path}: the images are read one by one and may differ in size: bring all to one with "
                "--config.data.image_size=N, or keep them in memory with a larger --config.data.memory_gigabytes"
            )
        first = train.images(np.arange(1))[0]
        arrays = {"image": ArraySpec(self.shape(first.shape), first.dtype.name), "label": ArraySpec((), "int32")}
        mean, std = (self.mean, self.std) if self.mean else self._statistics(train)
        return Spec(arrays, class_names=names, mean=tuple(mean), std=tuple(std))

    def _statistics(self, train: LabelledImages | ImagesById) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if isinstance(train, LabelledImages):
            return channel_statistics(train.image)
        ids = np.unique(np.linspace(0, len(train.label) - 1, SAMPLE).astype(np.int64))
        return channel_statistics(self.apply(train.images(ids), ids, None))

    def _find(self) -> Content:
        path = pathlib.Path(self.path).expanduser()
        if path.suffix == ".npz" and path.is_file():
            return checked(self._renamed(read_arrays(path)), path)
        wanted = Wanted("image", FORMS_EXPECTED, form_of, "configs/cifar10.py", self.address, MD5)
        folder = find_set(path, self._roots(), self.address if self.download else "", wanted)
        form = form_of(folder)
        read = {"classes": self._files, "tfds": self._tfds}.get(form) or FORMS[form].read
        return checked(self._renamed(read(folder)), folder)

    def _renamed(self, content: Content) -> Content:
        names, splits = content
        if self.validation_is_test and "validation" in splits:
            splits["test"] = splits.pop("validation")
        return names, splits

    def _roots(self) -> list[pathlib.Path]:
        return roots(pathlib.Path(self.path).expanduser(), self.prepared_path)

    def _tfds(self, folder: pathlib.Path) -> Content:
        """A prepared TFDS set."""
        from perceiver_jax.data import prepared_images  # imports TFDS

        shape, count = prepared_images.sizes(folder)
        if None in shape:
            one_by_one = self.image_size is not None
        else:
            one_by_one = math.prod(shape) * count > self.memory_gigabytes * 1e9
        if not one_by_one:
            return prepared_images.read(folder)
        place = prepared_images.find(folder)
        name = f"labels-{fingerprint(place, sorted(file.name for file in place.iterdir() if file.is_file()))}"
        labels = prepare(self._roots(), name, lambda into: prepared_images.write_labels(folder, into))
        return prepared_images.by_id(folder, labels)

    def _files(self, folder: pathlib.Path) -> Content:
        """Single files, decoded once, or each time."""
        files = list_files(folder)
        if self.takes_windows or num_bytes(files, self.image_size) > self.memory_gigabytes * 1e9:
            files = self._readable(files) if self.bad_images == "skip" else files
            return files.class_names, by_id(files)
        return self._prepared(files)

    def _readable(self, files: ImageFiles) -> ImageFiles:
        """Those that can be decoded, which is tried once and remembered."""
        names = [name for split in files.files.values() for name, _ in split]

        def write(into: pathlib.Path) -> None:
            (into / "readable.json").write_text(json.dumps(without_bad(files).files))

        found = prepare(self._roots(), f"readable-{fingerprint(files.folder, names)}", write) / "readable.json"
        kept = {split: tuple(map(tuple, part)) for split, part in json.loads(found.read_text()).items()}
        return dataclasses.replace(files, files=kept)

    def _prepared(self, files: ImageFiles) -> Content:
        from perceiver_jax.data import prepared_images  # imports TFDS

        options = {"image_size": self.image_size, "policy": self.bad_images}
        splits = {split: functools.partial(decoded, files, split, **options) for split in files.files}
        names = [name for split in files.files.values() for name, _ in split]
        described = {"class_names": files.class_names, "splits": files.files, "resized": "bicubic"}
        name = f"images-{fingerprint(files.folder, names, **described, **options)}"

        def write(into: pathlib.Path) -> None:
            shape = next(decoded(files, "train", **options))[0].shape
            prepared_images.write(into, files.class_names, shape, splits)

        return prepared_images.read(prepare(self._roots(), name, write))


FORMS_EXPECTED = "; ".join(form.expected for form in FORMS.values())


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel; a channel that never changes has the deviation 1."""
    channels = images.reshape(-1, images.shape[-1])
    if images.dtype == np.uint8:
        counts = np.stack([np.bincount(channels[:, k], minlength=256) for k in range(channels.shape[1])])
        mean = counts @ np.arange(256) / len(channels)
        variance = counts @ np.arange(256) ** 2 / len(channels) - mean**2
    else:
        mean, variance = channels.mean(0, dtype=np.float64), channels.var(0, dtype=np.float64)
    std = np.sqrt(np.where(variance > 0, variance, 1))
    return tuple(mean.tolist()), tuple(std.tolist())
