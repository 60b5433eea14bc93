# SPDX-License-Identifier: Apache-2.0
"""Images with one label each: a source for every form in which such a set may lie (`image_forms` lists them)."""

import dataclasses
import functools
import pathlib
import threading

import numpy as np

from perceiver_jax.data.cifar import MD5, LabelledImages
from perceiver_jax.data.fetch import Wanted, find_set
from perceiver_jax.data.image_arrays import read_arrays
from perceiver_jax.data.image_folders import POLICIES, decoded, list_files
from perceiver_jax.data.image_forms import FORMS, Content, checked, form_of
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.prepared import fingerprint, prepare, roots
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import stratified
from perceiver_jax.errors import ConfigError

_READING = threading.Lock()  # the files are read once, also when several threads ask first


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet(ImageAugmentation):
    """Images, read into memory at the first use; pickles without them.

    `mean` and `std` of the spec are those of the training split, as stored; the model normalises by them.

    Attributes:
        path: the folder with the files, or the one above it, or an archive of them, or a .npz. It is only read, unless
            there is nothing: then the set is downloaded into it.
        validation_fraction: share of each class of the training part that becomes the validation split, where the set
            has none of its own.
        test_fraction: the same for the test split.
        split_seed: chooses which.
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
    bad_images: str = "error"
    prepared_path: str = ""
    address: str = ""
    download: bool = True

    def __post_init__(self):
        super().__post_init__()
        for name, low in (("validation_fraction", True), ("test_fraction", False)):
            value = getattr(self, name)
            if not (0 <= value < 1 and (low or value > 0)):
                what = "0 or more" if low else "more than 0"
                raise ConfigError(f"{name}={value}: expected {what}, and less than 1.")
        if self.bad_images not in POLICIES:
            raise ConfigError(f"bad_images={self.bad_images!r}: expected one of {', '.join(POLICIES)}.")

    @property
    def spec(self) -> Spec:
        names, splits, (mean, std) = self._read()
        image = splits["train"].image
        arrays = {
            "image": ArraySpec(self.shape(image.shape[1:]), image.dtype.name),
            "label": ArraySpec((), "int32"),
        }
        return Spec(arrays, class_names=names, mean=mean, std=std)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._read()[1])

    def num_examples(self, split: str) -> int:
        return len(self._read()[1][split].label)

    def labels(self, split: str) -> np.ndarray:
        return self._read()[1][split].label

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        content, ids = self._read()[1][split], np.asarray(ids)
        return {"image": self.apply(content.image[ids], ids, epoch), "label": content.label[ids]}

    def _read(self):
        """(class names, splits, (mean, std) of the training split)."""
        with _READING:
            if "_content" not in self.__dict__:
                names, splits = self._find()
                for name, fraction in (("test", self.test_fraction), ("validation", self.validation_fraction)):
                    if name not in splits:
                        splits["train"], splits[name] = _carved(splits["train"], fraction, self.split_seed, name)
                splits = {name: splits[name] for name in ("train", "validation", "test") if len(splits[name].label)}
                self.__dict__["_content"] = names, splits, channel_statistics(splits["train"].image)
            return self.__dict__["_content"]

    def _find(self) -> Content:
        path = pathlib.Path(self.path).expanduser()
        if path.suffix == ".npz" and path.is_file():
            return checked(read_arrays(path), path)
        wanted = Wanted("image", FORMS_EXPECTED, form_of, "configs/cifar10.py", self.address, MD5)
        folder = find_set(path, roots(path, self.prepared_path), self.address if self.download else "", wanted)
        read = FORMS[form_of(folder)].read or self._prepared
        return checked(read(folder), folder)

    def _prepared(self, folder: pathlib.Path) -> Content:
        """Single files, decoded once."""
        from perceiver_jax.data import prepared_images  # imports TFDS

        files = list_files(folder)
        options = {"image_size": self.image_size, "policy": self.bad_images}
        splits = {split: functools.partial(decoded, files, split, **options) for split in files.files}
        names = [name for split in files.files.values() for name, _ in split]
        name = f"images-{fingerprint(folder, names, class_names=files.class_names, splits=files.files, **options)}"

        def write(into: pathlib.Path) -> None:
            shape = next(decoded(files, "train", **options))[0].shape
            prepared_images.write(into, files.class_names, shape, splits)

        roots_of = roots(pathlib.Path(self.path).expanduser(), self.prepared_path)
        return prepared_images.read(prepare(roots_of, name, write))

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_content"}


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


def _carved(images: LabelledImages, fraction: float, seed: int, stream: str) -> tuple[LabelledImages, LabelledImages]:
    """What stays, and `fraction` of each class."""
    chosen = stratified(images.label, fraction, seed, stream)
    return tuple(
        images if rows.all() else LabelledImages(images.image[rows], images.label[rows]) for rows in (~chosen, chosen)
    )
