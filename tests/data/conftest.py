# SPDX-License-Identifier: Apache-2.0
"""A tiny set written exactly as `modelnet40_ply_hdf5_2048` is."""

import gzip
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image
from tensorboardX.record_writer import masked_crc32c

from perceiver_jax.data.multi_object import PUBLISHED

CLASSES = ("chair", "desk", "lamp")


def write_modelnet(parent):
    """Two training files of 20 and 10 clouds, one test file of 12, 10 points each; classes in turn."""
    folder = parent / "modelnet40_ply_hdf5_2048"
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    listed = {
        "train": {"ply_data_train0.h5": 20, "ply_data_train1.h5": 10},
        "test": {"ply_data_test0.h5": 12},
    }
    random = np.random.default_rng(0)
    for split, files in listed.items():
        for name, count in files.items():
            with h5py.File(folder / name, "w") as content:
                points = random.uniform(-1, 1, (count, 10, 3)).astype(np.float32)
                content.create_dataset("data", data=points, compression="gzip")
                content["label"] = (np.arange(count) % 3).astype(np.uint8)[:, None]
                content["faceId"] = np.zeros((count, 10), np.int32)
        lines = [f"data/modelnet40_ply_hdf5_2048/{name}" for name in files]
        (folder / f"{split}_files.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def modelnet_folder(tmp_path):
    """The folder above the set, as `--config.data.path` names it."""
    write_modelnet(tmp_path / "data")
    return tmp_path / "data"


def write_text_set(folder, per_class=5, points=20, name="modelnet40"):
    """`modelnet40_normal_resampled`: CLASS/CLASS_0001.txt, names and lists; the last of a class is for testing."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True)
    (folder / f"{name}_shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    lists = {"train": [], "test": []}
    for kind in CLASSES:
        (folder / kind).mkdir()
        for number in range(1, per_class + 1):
            shape = f"{kind}_{number:04}"
            rows = random.uniform(-1, 1, (points, 6))
            lines = [",".join(f"{x:.6f}" for x in row) for row in rows]
            (folder / kind / f"{shape}.txt").write_text("\n".join(lines) + "\n")
            lists["test" if number == per_class else "train"].append(shape)
    for split, shapes in lists.items():
        (folder / f"{name}_{split}.txt").write_text("\n".join(shapes) + "\n")
    return folder


def off_box(size, joined):
    """A box of 8 vertices and 12 triangles, in either form of the header."""
    corners = [(x * size[0], y * size[1], z * size[2]) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    lines = ["OFF8 12 0" if joined else "OFF\n8 12 0", *(f"{x} {y} {z}" for x, y, z in corners)]
    return "\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in faces)]) + "\n"


def write_off_set(folder):
    """`ModelNet40`: CLASS/train/CLASS_0001.off, CLASS/test/CLASS_0004.off, headers in both forms."""
    for index, kind in enumerate(CLASSES):
        for number in range(1, 6):
            part = folder / kind / ("test" if number == 5 else "train")
            part.mkdir(parents=True, exist_ok=True)
            text = off_box((1, 1 + index, number), joined=number % 2)
            (part / f"{kind}_{number:04}.off").write_text(text)
    return folder


def write_cloud_set(folder, suffix, points=20, per_class=5):
    """CLASS/CLASS_0001.pcd or .ply, binary, without a split."""
    random = np.random.default_rng(2)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(per_class):
            cloud = random.uniform(-1, 1, (points, 3)).astype("<f4")
            if suffix == "pcd":
                head = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {0}\nHEIGHT 1\n"
                head += "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {0}\nDATA binary\n"
            else:
                head = "ply\nformat binary_little_endian 1.0\nelement vertex {0}\n"
                head += "property float x\nproperty float y\nproperty float z\nend_header\n"
            content = head.format(points).encode() + cloud.tobytes()
            (folder / kind / f"{kind}_{number:04}.{suffix}").write_bytes(content)
    return folder


WRITERS = {
    "text": write_text_set,
    "off": write_off_set,
    "pcd": lambda folder: write_cloud_set(folder, "pcd"),
    "ply": lambda folder: write_cloud_set(folder, "ply"),
}


CIFAR_CLASSES = ("cat", "dog", "frog")


def write_cifar(folder, version="cifar-10-batches-py", seed=0):
    """Three classes in an official folder; 12 images in every file. Returns {file: (records (12, 3072), labels)}."""
    random, content = np.random.default_rng(seed), {}
    folder.mkdir(parents=True, exist_ok=True)
    fine, binary = "100" in version, not version.endswith(("py", "python"))
    ending = ".bin" if binary else ""
    files = ["train", "test"] if fine else [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for file in files:
        pixels, labels = random.integers(0, 256, (12, 3072)).astype(np.uint8), np.arange(12) % 3
        content[file + ending] = pixels, labels
        if binary:
            columns = [np.full((12, 1), 7)] * fine + [labels[:, None], pixels]
            (folder / f"{file}.bin").write_bytes(np.concatenate(columns, 1).astype(np.uint8).tobytes())
        else:
            key = b"fine_labels" if fine else b"labels"
            (folder / file).write_bytes(pickle.dumps({b"data": pixels, key: labels.tolist()}, protocol=2))
    if binary:
        names = "fine_label_names.txt" if fine else "batches.meta.txt"
        (folder / names).write_text("\n".join(CIFAR_CLASSES) + "\n\n")
    else:
        names = {b"fine_label_names" if fine else b"label_names": [name.encode() for name in CIFAR_CLASSES]}
        (folder / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(names, protocol=2))
    return content


@pytest.fixture
def cifar_folder(tmp_path):
    """CIFAR-10's Python version, in small."""
    write_cifar(tmp_path / "data" / "cifar-10-batches-py")
    return tmp_path / "data" / "cifar-10-batches-py"


@pytest.fixture
def write_set():
    """`write_set(form, folder)` writes three classes of five shapes, of 20 points where they are clouds."""
    return lambda form, folder: WRITERS[form](folder)


def _varint(number):
    content = b""
    while number > 127:
        content, number = content + bytes([number & 127 | 128]), number >> 7
    return content + bytes([number])


def field(number, content):
    """A field of a protobuf message that has a length."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def example_message(features):
    """A serialised tf.train.Example; uint8 arrays become one value a byte, as the published files have them."""
    entries = []
    for name, array in features.items():
        if array.dtype == np.uint8:
            rows = np.stack([np.full(array.size, 0x0A, np.uint8), np.ones(array.size, np.uint8), array.ravel()], 1)
            feature = field(1, rows.tobytes())
        elif array.dtype == np.int64:
            feature = field(3, field(1, b"".join(map(_varint, array.ravel().tolist()))))
        else:
            feature = field(2, field(1, array.astype("<f4").tobytes()))
        entries.append(field(1, field(1, name.encode()) + field(2, feature)))
    return field(1, b"".join(entries))


def write_tfrecords(file, messages):
    """GZIP TFRecords; the checksum of large contents, which nobody reads, is left 0: it takes a second each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wb", compresslevel=1) as stream:
        for message in messages:
            length = len(message).to_bytes(8, "little")
            for part in (length, message):
                checksum = masked_crc32c(part) if len(part) < 1 << 17 else 0
                stream.write(part + checksum.to_bytes(4, "little"))


def multi_object_features(dataset, seed, num_objects):
    """The features of one scene as published: objects are squares of one colour, side by side."""
    published = PUBLISHED[dataset]
    rng = np.random.default_rng(seed)
    (height, width, channels), entities, first = published.image, published.entities, published.background
    masks = np.zeros((entities, height, width, 1), np.uint8)
    image = np.full(published.image, 40, np.uint8)
    side, top, left = height // 8, *(published.crop[::2] or (0, 0))
    for number in range(num_objects):
        row, column = top + 1 + number // 4 * (side + 1), left + 1 + number % 4 * (side + 1)
        masks[first + number, row : row + side, column : column + side] = 255
        image[row : row + side, column : column + side] = rng.integers(60, 256, channels)
    hidden = masks.any(0)[..., 0]
    for k, rows in enumerate(np.array_split(np.arange(height), first)):
        masks[k, rows] = 255 * ~hidden[rows, :, None]
    features = {"image": image, "mask": masks.transpose(1, 2, 0, 3) if published.entities_last else masks}
    if first > 1:
        return features
    seen = np.arange(entities) <= num_objects
    codes = rng.integers(1, 4, entities) * seen
    features |= {"visibility": seen.astype(np.float32), "x": rng.random(entities), "y": rng.random(entities)}
    if dataset == "clevr_with_masks":
        classes = {"size": 2, "material": 2, "shape": 3, "color": 8}
        code = {name: np.minimum(codes, most).astype(np.uint8) for name, most in classes.items()}
        features |= code | {"z": rng.random(entities), "rotation": 360 * rng.random(entities)}
        return features | {"pixel_coords": rng.random((entities, 3))}
    features |= {"shape": codes.astype(np.float32), "color": rng.random((entities, channels))}
    if published.entities_last:
        features |= {"orientation": 6 * rng.random(entities), "scale": rng.random(entities)}
    return features


def write_multi_object(file, dataset, counts):
    """A set in the published format, scenes with these numbers of objects; returns their features."""
    scenes = [multi_object_features(dataset, seed, count) for seed, count in enumerate(counts)]
    write_tfrecords(file, map(example_message, scenes))
    return scenes


def write_scene_images(folder, named, count):
    """Images of 16 x 16 pixels with two objects, which overlap, and masks named in one of the ways; what they hold.

    named: "planes" (one file for each object, after the background's), "numbers" (one with numbers), "folders" (the
    same in images/ and masks/), "none".
    """
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
    objects = np.zeros((count, 16, 16), np.uint8)
    objects[:, 2:9, 3:9], objects[:, 7:12, 5:14] = 1, 2
    inner = {"image": "images", "mask": "masks"} if named == "folders" else {"image": "", "mask": ""}
    for name in inner.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(images[number]).save(folder / inner["image"] / f"scene_{number}.png")
        if named == "planes":
            for k in range(3):
                plane = (objects[number] == k) * np.uint8(255)
                Image.fromarray(plane).save(folder / f"scene_{number}_mask_{k}.png")
        elif named == "numbers":
            Image.fromarray(objects[number] * np.uint8(100)).save(folder / f"scene_{number}_mask.png")
        elif named == "folders":
            Image.fromarray(objects[number]).save(folder / "masks" / f"scene_{number}.png")
    return images, objects
