# SPDX-License-Identifier: Apache-2.0
"""GZIP TFRecord files of tf.train.Example messages, read as a stream without TensorFlow.

A record is its length (8 bytes) with a masked CRC-32C, its content, another CRC-32C. The first is checked; the content
is covered by gzip's own checksum, which stands behind the last record: who wants to be sure reads up to the end.
"""

import functools
import gzip
import pathlib
import zlib
from collections.abc import Iterator

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from perceiver_jax.errors import ConfigError

LARGEST = 1 << 28  # bytes of a record; more is a damaged length
POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
BYTE = (0x0A, 1)  # tag and length in front of a BytesList's value of one byte
FIELD = descriptor_pb2.FieldDescriptorProto


def records(file: pathlib.Path) -> Iterator[bytes]:
    """The content of every record, in order.

    Raises:
        ConfigError: names the file and the number of the record, from 0, that is cut off or damaged.
    """
    index = 0
    try:
        with gzip.open(file) as stream:
            while head := stream.read(12):
                yield _content(stream, head, f"{file}: record {index}")
                index += 1
    except (EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{file}: record {index}: cannot be unpacked ({reason}). Fetch the file again.") from error


def _content(stream: gzip.GzipFile, head: bytes, where: str) -> bytes:
    length, checksum = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
    if len(head) == 12 and (masked_checksum(head[:8]) != checksum or length > LARGEST):
        raise ConfigError(f"{where}: its length is damaged, or the file holds no TFRecords. Fetch it again.")
    body = stream.read(length + 4) if len(head) == 12 else b""
    if len(body) != length + 4:
        raise ConfigError(
            f"{where} is cut off: expected {length + 16} bytes, got {len(head) + len(body)}. Fetch it again."
        )
    return body[:length]


def masked_checksum(content: bytes) -> int:
    """CRC-32C as it stands in TFRecords; slow, for a few bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ POLYNOMIAL * (crc & 1)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(record: bytes, where: str) -> dict[str, np.ndarray]:
    """The features of a tf.train.Example by name: uint8 (all values of bytes in a row), float32 or int64.

    Args:
        where: file and record, for errors.

    Raises:
        ConfigError: it is no such message.
    """
    messages = _messages()
    try:
        features = messages["Example"].FromString(record).features.feature
        return {str(name): _values(feature) for name, feature in features.items()}
    except (DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: no tf.train.Example message. Fetch the file again.") from error


def _values(feature) -> np.ndarray:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return _bytes(feature.bytes_list)
    values = getattr(feature, kind).value if kind else ()
    return np.array(values, np.int64 if kind == "int64_list" else np.float32)


def _bytes(content: bytes) -> np.ndarray:
    """The values of a BytesList; a tensor written as one value a byte would be a million objects."""
    if len(content) % 3 == 0:
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3)
        if all((rows[:, column] == value).all() for column, value in enumerate(BYTE)):  # pairs compare slowly
            return rows[:, 2].copy()
    return np.frombuffer(b"".join(_messages()["BytesList"].FromString(content).value), np.uint8)


@functools.cache
def _messages() -> dict[str, type]:
    """Classes of tf.train.Example's messages; of its BytesList the bytes are kept as they are."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="example", syntax="proto3")
    for name, kind in (
        ("BytesList", FIELD.TYPE_BYTES),
        ("FloatList", FIELD.TYPE_FLOAT),
        ("Int64List", FIELD.TYPE_INT64),
    ):
        _message(file, name, ("value", 1, FIELD.LABEL_REPEATED, kind, ""))
    feature = _message(
        file,
        "Feature",
        ("bytes_list", 1, FIELD.LABEL_OPTIONAL, FIELD.TYPE_BYTES, ""),
        ("float_list", 2, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, "FloatList"),
        ("int64_list", 3, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, "Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = _message(
        file, "Features", ("feature", 1, FIELD.LABEL_REPEATED, FIELD.TYPE_MESSAGE, "Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=FIELD.LABEL_OPTIONAL, type=FIELD.TYPE_STRING)
    value = {"type": FIELD.TYPE_MESSAGE, "type_name": ".example.Feature"}
    entry.field.add(name="value", number=2, label=FIELD.LABEL_OPTIONAL, **value)
    _message(file, "Example", ("features", 1, FIELD.LABEL_OPTIONAL, FIELD.TYPE_MESSAGE, "Features"))
    pool = descriptor_pool.DescriptorPool()  # of its own: others may have registered the same names
    pool.Add(file)
    names = ("Example", "BytesList")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"example.{name}")) for name in names}


def _message(file, name: str, *fields: tuple):
    """Adds a message with its fields (name, number, label, type, name of a message's type)."""
    message = file.message_type.add(name=name)
    for field, number, label, kind, type_name in fields:
        message.field.add(name=field, number=number, label=label, type=kind)
        if type_name:
            message.field[-1].type_name = f".example.{type_name}"
    return message
