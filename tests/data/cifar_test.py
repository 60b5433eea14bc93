# SPDX-License-Identifier: Apache-2.0
"""The four official folders of CIFAR are read as they are, and each thing that can be wrong with them is named."""

import pickle

import numpy as np
import pytest

from perceiver_jax.data.cifar import VERSIONS, read_cifar
from perceiver_jax.errors import ConfigError
from tests.data.conftest import CIFAR_CLASSES, write_cifar


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read_in_its_order(tmp_path, version):
    written = write_cifar(tmp_path / "any name", version)
    names, splits = read_cifar(tmp_path / "any name")
    assert names == CIFAR_CLASSES and sorted(splits) == ["test", "train"]
    for split, files in VERSIONS[version].files.items():
        pixels, labels = (np.concatenate(part) for part in zip(*(written[file] for file in files), strict=True))
        images = splits[split]
        assert images.image.dtype == np.uint8 and images.label.dtype == np.int32
        np.testing.assert_array_equal(images.label, labels)
        np.testing.assert_array_equal(images.image[3, 5, 7], pixels[3].reshape(3, 32, 32)[:, 5, 7])


def damaged(folder, how):
    file = folder / "data_batch_2"
    content = pickle.loads(file.read_bytes(), encoding="bytes")
    if how == "label":
        content[b"labels"][4] = 3
    elif how == "shape":
        content[b"data"] = content[b"data"][:, :3000]
    elif how == "key":
        del content[b"labels"]
    file.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("label", "data_batch_2: labels from 0 to 3: expected 0 to 2"),
        ("shape", r"data_batch_2: images of shape \(12, 3000\).* expected \(n, 3072\) uint8"),
        ("key", "data_batch_2: has no 'labels', got data"),
    ],
)
def test_wrong_content_is_named(cifar_folder, how, message):
    damaged(cifar_folder, how)
    with pytest.raises(ConfigError, match=message):
        read_cifar(cifar_folder)


def test_broken_files_are_named(cifar_folder, tmp_path):
    (cifar_folder / "test_batch").write_bytes(b"no pickle")
    with pytest.raises(ConfigError, match="test_batch: is no CIFAR file"):
        read_cifar(cifar_folder)
    (cifar_folder / "test_batch").unlink()
    with pytest.raises(ConfigError, match="test_batch: cannot be read .*No such file"):
        read_cifar(cifar_folder)
    write_cifar(tmp_path / "binary", "cifar-10-batches-bin")
    (tmp_path / "binary" / "test_batch.bin").write_bytes(b"x" * 100)
    with pytest.raises(ConfigError, match="test_batch.bin: 100 bytes: expected a multiple of 3073"):
        read_cifar(tmp_path / "binary")


class Attack:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_pickle_runs_nothing(cifar_folder, capsys):
    (cifar_folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Attack()}))
    with pytest.raises(ConfigError, match="print is no array"):
        read_cifar(cifar_folder)
    assert "this ran" not in capsys.readouterr().out
