# SPDX-License-Identifier: Apache-2.0
"""Clouds as a TFDS data set in array_record files, written and read without TensorFlow.

Importing this module imports TFDS: do it where a set is prepared or read. Which folder is for `prepared`.
"""

import contextlib
import io
import logging
import pathlib

import grain
import numpy as np
import tensorflow_datasets as tfds

from perceiver_jax.data import randomness
from perceiver_jax.data.cloud_files import read_cloud
from perceiver_jax.data.layouts import Layout
from perceiver_jax.data.modelnet_hdf5 import Clouds
from perceiver_jax.errors import ConfigError

LOG = logging.getLogger(__name__)
READ_AT_ONCE = 256  # records
TOLD_EVERY = 1000  # files that were prepared


class PreparedClouds(tfds.core.GeneratorBasedBuilder):
    """The builder; `problem` holds the error that ended it, which TFDS would wrap."""

    VERSION = tfds.core.Version("1.0.0")
    name = "prepared_clouds"
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(self, layout: Layout, num_points: int, normals: bool, sample_seed: int, folder: pathlib.Path):
        self.layout, self.num_points, self.normals, self.sample_seed = layout, num_points, normals, sample_seed
        self.problem: ConfigError | None = None
        super().__init__(data_dir=str(folder), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.num_points, 6 if self.normals else 3)
        features = {
            "points": tfds.features.Tensor(shape=shape, dtype=np.float32),
            "label": tfds.features.ClassLabel(names=list(self.layout.class_names)),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Point clouds from {self.layout.form} files.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self.layout.files}

    def _generate_examples(self, split: str):
        for index, (name, label) in enumerate(self.layout.files[split]):
            try:
                points = sample(self.layout, name, self.num_points, self.normals, self.sample_seed)
            except ConfigError as error:
                self.problem = error
                raise
            yield index, {"points": points, "label": label}
            if not (index + 1) % TOLD_EVERY:
                LOG.info("%s: %s of %s files prepared", split, f"{index + 1:,}", f"{len(self.layout.files[split]):,}")


def write(layout: Layout, folder: pathlib.Path, *, num_points: int, normals: bool, sample_seed: int) -> None:
    """Prepares a set in an empty folder.

    Raises:
        ConfigError: a file of the set is broken.
    """
    tfds.disable_progress_bar()
    builder = PreparedClouds(layout, num_points, normals, sample_seed, folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download; there is none
            builder.download_and_prepare()
    except Exception:
        if builder.problem is not None:
            raise builder.problem from None
        raise


def read(
    layout: Layout, folder: pathlib.Path, *, num_points: int, normals: bool
) -> tuple[tuple[str, ...], dict[str, Clouds]]:
    """Class names and splits of a prepared set, into memory through Grain.

    Raises:
        ConfigError: it is damaged, or is not what `write` makes of this layout.
    """
    try:
        builder = tfds.builder_from_directory(str(folder / PreparedClouds.name / str(PreparedClouds.VERSION)))
        splits = {split: _read_split(builder.as_data_source(split=split)) for split in layout.files}
        names = tuple(builder.info.features["label"].names)
    except Exception as error:
        raise _damaged(folder, " ".join(str(error).split())[:200]) from error
    if names != layout.class_names:
        raise _damaged(folder, f"its classes are {', '.join(names)[:100]}")
    for split, files in layout.files.items():
        points, label = splits[split].points, [label for _, label in files]
        whole = points.shape == (len(files), num_points, 6 if normals else 3) and np.isfinite(points).all()
        if not whole or splits[split].label.tolist() != label:
            raise _damaged(folder, f"its {split} split, {points.shape}, is not that of {layout.folder}")
    return names, splits


def _damaged(folder: pathlib.Path, reason: str) -> ConfigError:
    return ConfigError(f"{folder}: the prepared set is damaged ({reason}). Delete it and run again.")


def sample(layout: Layout, name: str, num_points: int, normals: bool, sample_seed: int) -> np.ndarray:
    """(num_points, 3 or 6) float32 of one file, as `read_cloud` takes them, by a seed of this file's name.

    Raises:
        ConfigError: the file is broken, has too few points or no surface.
    """
    file = layout.folder / name
    seed = int(randomness.keys(sample_seed, f"sample {name}", np.zeros(1, np.int64))[0])
    try:
        points = read_cloud(file, layout.form, num_points, normals, seed)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}). Unpack the set again.") from error
    if len(points) < num_points:
        raise ConfigError(
            f"{file}: has {len(points)} points: expected at least {num_points}. "
            f"Set --config.data.num_points={len(points)} or less, and so stored_points, where it is set."
        )
    return points


def _read_split(source) -> Clouds:
    batches = grain.MapDataset.source(source).batch(READ_AT_ONCE)
    parts = [batches[i] for i in range(len(batches))]
    points, label = (np.concatenate([part[name] for part in parts]) for name in ("points", "label"))
    return Clouds(points, label.astype(np.int32))
