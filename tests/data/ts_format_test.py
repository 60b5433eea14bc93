# SPDX-License-Identifier: Apache-2.0
"""The `.ts` format: what is read, and one clear line for each way a file can be wrong."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from perceiver_jax.data.ts_format import read_ts
from perceiver_jax.errors import ConfigError

HEAD = "#A comment with caf\xe9\n@problemName X\n@timeStamps false\n@missing {missing}\n@univariate false\n"
HEAD += "@dimensions 2\n@equalLength false\n@classLabel true b 10\n@data\n"


def write(tmp_path, cases, missing="false", head=HEAD):
    file = tmp_path / "X_TRAIN.ts"
    text = head.replace("{missing}", missing) + "\n".join(cases) + "\n"
    file.write_bytes(text.encode("latin-1"))  # comments of the archive are not all UTF-8
    return file


def test_lengths_channels_and_classes(tmp_path):
    content = read_ts(write(tmp_path, ["1,2,3:4,5,6:10", "", "-1e-3,2:.5,7:b"]))
    assert content.class_names == ("b", "10") and content.label == (1, 0)
    np.testing.assert_array_equal(content.sequences[0], [[1, 4], [2, 5], [3, 6]])
    assert content.sequences[1].dtype == np.float32 and content.sequences[1].shape == (2, 2)


def test_missing_values_and_a_tail_of_nothing(tmp_path):
    (sequence,) = read_ts(write(tmp_path, ["1,?,3,?,?:?,NaN,6,7,?:b"], missing="true")).sequences
    np.testing.assert_array_equal(sequence, [[1, np.nan], [np.nan, np.nan], [3, 6], [np.nan, 7]])


def test_univariate(tmp_path):
    head = "@problemName X\n@timeStamps false\n@univariate true\n@classLabel true 1 2\n@data\n"
    assert read_ts(write(tmp_path, ["1,2,3:2"], head=head)).sequences[0].shape == (3, 1)


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        (["1,2:3,4:b", "1,2,3:4,5:b"], r"X_TRAIN.ts, line 11: channel 2 has 2 values: expected 3"),
        (["1,2:b"], "line 10: has 1 channels: expected 2"),
        (["1,2:3,4:c"], r"class 'c' is not in the header \(@classLabel b 10\)"),
        (["1,x:3,4:b"], "could not convert string to float: 'x'"),
        (["1,inf:3,4:b"], "infinite value"),
        (["1,1e300:3,4:b"], "infinite value"),
        (["1,NaN:3,4:b"], "missing value .* header rules out"),
        (["::b"], "is an empty sequence"),
        (["(0,1),(1,2):(0,3),(1,4):b"], "has timestamps"),
        (["1,\xff:3,4:b"], "line 10: is not UTF-8"),
        ([], "has no cases"),
    ],
)
def test_broken_cases(tmp_path, cases, message):
    with pytest.raises(ConfigError, match=message) as error:
        read_ts(write(tmp_path, cases))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@timeStamps false", "@timeStamps true", "without timestamps; resample"),
        ("@classLabel true b 10", "@classLabel false", "no classes"),
        ("@data\n", "", "expected a header line"),
    ],
)
def test_broken_headers(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message):
        read_ts(write(tmp_path, ["1,2:3,4:b"], head=HEAD.replace(old, new)))


def test_files_without_classes_where_none_are_needed(tmp_path):
    head = HEAD.replace("@classLabel true b 10", "@classLabel false")
    found = read_ts(write(tmp_path, ["1,2:3,4", "5,6,7:8,9,10"], head=head), labelled=False)
    assert (found.class_names, found.label) == ((), ())
    np.testing.assert_array_equal(found.sequences[1], [[5, 8], [6, 9], [7, 10]])
    found = read_ts(write(tmp_path, ["1,2:3,4:b"]), labelled=False)
    assert (found.class_names[found.label[0]], found.sequences[0].shape) == ("b", (2, 2))


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ts(tmp_path / "X_TRAIN.ts")


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_damage_is_read_or_refused_in_one_line(tmp_path, data):
    """Bytes are cut out, put in and changed anywhere."""
    content = bytearray(write(tmp_path, ["1,2,3:4,5,6:10", "1,?:3,4:b"], missing="true").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=6))
    (tmp_path / "X_TRAIN.ts").write_bytes(content)
    try:
        found = read_ts(tmp_path / "X_TRAIN.ts")
    except ConfigError as error:
        assert "X_TRAIN.ts" in str(error) and "\n" not in str(error)
    else:
        assert all(len(sequence) for sequence in found.sequences)
        assert max(found.label) < len(found.class_names)
