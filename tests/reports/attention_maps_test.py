# SPDX-License-Identifier: Apache-2.0
"""What is not there or damaged is one clear line."""

import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.reports import attention_maps
from tests.reports.attention_files import write_run


def test_maps_come_as_float32(tmp_path):
    write_run(tmp_path, "points")
    assert attention_maps.steps(tmp_path) == [8, 16, 24]
    assert attention_maps.read(tmp_path, 16)["cross"].dtype == np.float32
    assert attention_maps.read_examples(tmp_path)["points"].shape[0] == 2


@pytest.mark.parametrize("read", [attention_maps.steps, attention_maps.read_examples])
def test_a_run_without_maps_names_the_setting(read, tmp_path):
    with pytest.raises(ConfigError, match=r"has no attention maps: .*config.attention_maps.every=10"):
        read(tmp_path)


def test_another_step_lists_those_there_are(tmp_path):
    write_run(tmp_path, "points")
    with pytest.raises(ConfigError, match=r"of step 7: there are 8 \(epoch 1\), 16 \(epoch 2\), 24 \(epoch 3\)"):
        attention_maps.read(tmp_path, 7)


def test_a_damaged_file_is_named(tmp_path):
    file = write_run(tmp_path, "points") / "attention" / "00000016.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ConfigError, match="00000016.npz cannot be read"):
        attention_maps.read(tmp_path, 16)
