# SPDX-License-Identifier: Apache-2.0
"""How images, series and text are read in `tests/readers.py`, and what must hold of whatever comes back."""

from pathlib import Path

import numpy as np

from perceiver_jax.data.image_folders import decoded, list_files
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.data.sequences import StoredSequences
from perceiver_jax.data.source import Source
from perceiver_jax.data.text import Text
from perceiver_jax.data.timeseries import TimeSeries
from tests.example_sets import SIZE


def read_images(folder: Path) -> None:
    """Any form that is not prepared first, as a config reads it."""
    source = ImageSet(path=str(folder), download=False)
    check_examples(source, "image")
    height, width, channels = source.spec.arrays["image"].shape
    assert height > 0 and width > 0 and 1 <= channels <= 4
    assert np.isfinite([*source.spec.mean, *source.spec.std]).all() and min(source.spec.std) > 0


def read_classes(folder: Path) -> None:
    """Single files, each decoded as where they are prepared."""
    files = list_files(folder)
    assert len(files.class_names) == 3
    for split in files.files:
        images = list(decoded(files, split, None, "error"))
        assert len(images) == len(files.files[split]) > 0
        assert {(image.shape, image.dtype.name) for image, _ in images} == {((SIZE, SIZE, 3), "uint8")}


def read_series(folder: Path) -> None:
    """A training and a test file."""
    check_sequences(TimeSeries(path=str(folder), num_buckets=2))


def read_text(folder: Path) -> None:
    """Labelled lines, or a file for each class."""
    check_sequences(Text(path=str(folder), max_length=32, num_buckets=2))


def check_sequences(source: StoredSequences) -> None:
    """What holds of every set of sequences."""
    check_examples(source, source.array)
    for split in source.splits:
        lengths = source.lengths(split)
        assert lengths.min() >= 1 and lengths.max() <= source.spec.max_length == source.padded_lengths[-1]


def check_examples(source: Source, name: str) -> None:
    """What holds of every source with classes."""
    spec = source.spec
    assert spec.class_names and all(isinstance(word, str) for word in spec.class_names)
    assert "train" in source.splits
    for split in source.splits:
        count = source.num_examples(split)
        batch, label = source.load(split, np.arange(count), None), source.labels(split)
        assert count == len(label) == len(batch[name]) == len(batch["label"]) > 0 and label.dtype == np.int32
        assert label.min() >= 0 and label.max() < len(spec.class_names)
        assert batch[name].dtype.name == spec.arrays[name].dtype and np.isfinite(batch[name]).all()
