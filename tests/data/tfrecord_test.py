# SPDX-License-Identifier: Apache-2.0
import gzip

import numpy as np
import pytest
from tensorboardX.record_writer import masked_crc32c

from perceiver_jax.data.tfrecord import masked_checksum, parse_example, records
from perceiver_jax.errors import ConfigError
from tests.data.conftest import example_message, field, write_tfrecords

MESSAGES = [b"first", b"", bytes(range(256)) * 20]


def damaged(file, change):
    """The file with its unpacked content changed."""
    file.write_bytes(gzip.compress(change(gzip.decompress(file.read_bytes()))))


def test_records_come_back_in_order(tmp_path):
    write_tfrecords(tmp_path / "a.tfrecords", MESSAGES)
    assert list(records(tmp_path / "a.tfrecords")) == MESSAGES


@pytest.mark.parametrize("content", [b"", b"123456789", bytes(8), bytes(range(200))])
def test_the_checksum_is_tensorflows(content):
    assert masked_checksum(content) == masked_crc32c(content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:30], "record 1 is cut off: expected 16 bytes, got 9"),
        (lambda content: content[:-9], "record 2 is cut off: expected 5136 bytes, got 5127"),
        (lambda content: content[:21] + b"\1" + content[22:], "record 1: its length is damaged"),
        (lambda content: b"no TFRecords at all", "record 0: its length is damaged"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, change, said):
    write_tfrecords(file := tmp_path / "a.tfrecords", MESSAGES)
    damaged(file, change)
    with pytest.raises(ConfigError, match=f"a.tfrecords: {said}"):
        list(records(file))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda packed: packed[:-20], "record 2: cannot be unpacked .*end-of-stream"),
        (lambda packed: packed[:-8] + bytes(8), "record 3: cannot be unpacked .*CRC check failed"),
        (lambda packed: b"plain" + packed, "record 0: cannot be unpacked .*Not a gzipped file"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path, change, said):
    write_tfrecords(file := tmp_path / "a.tfrecords", MESSAGES)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ConfigError, match=f"a.tfrecords: {said}"):
        list(records(file))


def test_features_of_every_type():
    features = {
        "image": np.arange(300, dtype=np.uint8),
        "x": np.float32([1.5, -2]),
        "count": np.int64([3, 1 << 40]),
        "none": np.zeros(0, np.uint8),
    }
    parsed = parse_example(example_message(features), "here")
    assert parsed.keys() == features.keys()
    for name, array in features.items():
        assert parsed[name].dtype == array.dtype
        np.testing.assert_array_equal(parsed[name], array)


@pytest.mark.parametrize("values", [[bytes(range(250))], [b"ab", b"c"], [b"\x0a"], [b"a"] * 5, [b"ab\x0a\x01c"]])
def test_bytes_in_one_value_or_in_several(values):
    feature = field(1, b"".join(field(1, value) for value in values))
    message = field(1, field(1, field(1, b"mask") + field(2, feature)))
    assert parse_example(message, "here")["mask"].tobytes() == b"".join(values)


def test_another_message_is_refused():
    with pytest.raises(ConfigError, match="a.tfrecords: record 4: no tf.train.Example"):
        parse_example(b"\xff" * 20, "a.tfrecords: record 4")
