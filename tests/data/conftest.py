# SPDX-License-Identifier: Apache-2.0
"""A tiny set written exactly as `modelnet40_ply_hdf5_2048` is."""

import h5py
import numpy as np
import pytest

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
