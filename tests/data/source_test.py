# SPDX-License-Identifier: Apache-2.0
"""Every source keeps the one interface."""

import numpy as np
import pytest

from perceiver_jax.data.solids import Solids
from perceiver_jax.data.source import Source


@pytest.fixture(params=["solids", "modelnet"])
def source(request, modelnet_folder):
    from perceiver_jax.data.modelnet import ModelNet

    if request.param == "solids":
        return Solids(num_points=16, num_train=40, num_validation=8, num_test=8)
    return ModelNet(path=str(modelnet_folder), num_points=8, validation_fraction=0.4)


def test_sources_are_what_they_say(source):
    assert isinstance(source, Source)
    assert {"train", "validation", "test"} == set(source.splits)
    for split in source.splits:
        ids = np.array([3, 0, 3])
        arrays = source.load(split, ids, None)
        for name, array in source.spec.arrays.items():
            assert arrays[name].shape == (3, *array.shape) and arrays[name].dtype.name == array.dtype
        assert arrays.keys() == source.spec.arrays.keys()
        np.testing.assert_array_equal(arrays["points"][0], arrays["points"][2])
        labels = source.labels(split)
        assert labels.dtype == np.int32 and len(labels) == source.num_examples(split)
        np.testing.assert_array_equal(arrays["label"], labels[ids])
        assert labels.max() < len(source.spec.class_names)
