# SPDX-License-Identifier: Apache-2.0
"""Small sets of images, series and text in every form that is read, three classes each; `WRITERS` lists them."""

import gzip
import struct

import numpy as np
from PIL import Image

from perceiver_jax.data import prepared_images
from tests.data.conftest import CIFAR_CLASSES, write_cifar

SIZE = 8
LABELS = np.arange(24) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3)).astype(np.uint8)
ARRAYS = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:6], "test_labels": LABELS[:6]}
TS_HEAD = "#small\n@timeStamps false\n@missing false\n@dimensions 2\n@classLabel true a b c\n@data\n"
OWN = """import numpy as np

def examples(split):
    lengths = 3 + np.arange(24) % 4
    return [{"input": np.ones((n, 2)), "label": i % 3} for i, n in enumerate(lengths)]
"""


def write_npz(folder, **changes):
    np.savez(folder / "set.npz", **{**ARRAYS, **changes})


def write_npy(folder):
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)


def write_idx(folder):
    for split, part in (("train", slice(None)), ("t10k", slice(6))):
        for name, array, ndim in (("images", IMAGES[part, ..., 0], 3), ("labels", LABELS[part].astype(np.uint8), 1)):
            head = struct.pack(f">BBBB{ndim}i", 0, 0, 8, ndim, *array.shape)
            content = head + array.tobytes()
            packed = split == "train"  # one of each
            file = folder / f"{split}-{name}-idx{ndim}-ubyte{'.gz' * packed}"
            file.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def write_classes(folder):
    for split, count in (("train", 12), ("test", 6)):
        for index in range(count):
            file = folder / split / CIFAR_CLASSES[index % 3] / f"{index:02}.{('png', 'jpg', 'bmp', 'gif')[index % 4]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[index]).save(file)


def write_tfds(folder):
    def examples(count):
        return lambda: zip(IMAGES[:count], LABELS[:count], strict=True)

    prepared_images.write(folder, CIFAR_CLASSES, IMAGES.shape[1:], {"train": examples(24), "test": examples(6)})


def write_ts(folder):
    random = np.random.default_rng(0)
    for part, count in (("TRAIN", 24), ("TEST", 6)):
        lines = []
        for index in range(count):
            channels = random.normal(size=(2, 4 + index % 5))
            values = ":".join(",".join(f"{x:.3f}" for x in channel) for channel in channels)
            lines.append(f"{values}:{'abc'[index % 3]}\n")
        (folder / f"Small_{part}.ts").write_text(TS_HEAD + "".join(lines))


def write_tsv(folder):
    for name, count in (("train", 24), ("test", 6)):
        lines = [f"{'abc'[index % 3]}\tthe text {index}, with ü\n" for index in range(count)]
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")


def write_books(folder):
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"a word of {name} ü " * 60, encoding="utf-8")


def write_own(folder):
    (folder / "own.py").write_text(OWN)


WRITERS = {
    "cifar": lambda folder: write_cifar(folder, "cifar-10-batches-py"),
    "cifar binary": lambda folder: write_cifar(folder, "cifar-100-binary"),
    "npz": write_npz,
    "npy": write_npy,
    "idx": write_idx,
    "classes": write_classes,
    "tfds": write_tfds,
    "ts": write_ts,
    "tsv": write_tsv,
    "books": write_books,
    "own": write_own,
}
