# SPDX-License-Identifier: Apache-2.0
"""The `.ts` text format of the UCR/UEA time series archive (Bagnall et al. 2018): one file, no sets.

Header lines begin with @, comments with #. After @data each line is a case: channels parted by colons, values by
commas, the class last. A missing value is `?` or NaN, where the header says @missing true.
"""

import dataclasses
import pathlib

import numpy as np

from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TsFile:
    """Attributes:
    class_names: in the order of the header.
    sequences: one (length, channels) float32 a case; NaN where a value is missing.
    label: index into class_names of each case.
    """

    class_names: tuple[str, ...]
    sequences: tuple[np.ndarray, ...]
    label: tuple[int, ...]


def read_ts(file: pathlib.Path, *, labelled: bool = True) -> TsFile:
    """Reads a file of sequences.

    Args:
        labelled: a file without classes is an error; else its cases have none.

    Raises:
        ConfigError: the file cannot be read, has timestamps or no classes, or a line of it is broken, which is named.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from error
    header: dict[str, str] = {}
    sequences, label, class_names = [], [], ()
    for number, raw in enumerate(lines, 1):
        if not raw.strip() or raw.lstrip().startswith(b"#"):
            continue
        try:
            line = _decoded(raw)
            if "data" not in header:
                key, _, value = line.partition(" ")
                if not key.startswith("@"):
                    raise ConfigError(f"expected a header line (@...) before @data, got {line[:40]!r}")
                header[key[1:].lower()] = value.strip()
                class_names = _class_names(header, labelled) if key.lower() == "@data" else ()
                continue
            channels, _, name = line.rpartition(":") if class_names else (line, "", "")
            sequences.append(_sequence(channels, header, sequences))
            label += [_index(name.strip(), class_names)] if class_names else []
        except ConfigError as error:
            raise ConfigError(f"{file}, line {number}: {error}. Mend the file, or fetch it again.") from None
    if not sequences:
        raise ConfigError(f"{file}: has no cases: expected a header, @data and a line for each. Fetch it again.")
    return TsFile(class_names, tuple(sequences), tuple(label))


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start + 1})") from None


def _class_names(header: dict[str, str], labelled: bool) -> tuple[str, ...]:
    """Checks the header, which has ended."""
    if header.get("timestamps", "false").lower() != "false":
        raise ConfigError("@timeStamps true: expected even steps without timestamps; resample the series first")
    has, *names = header.get("classlabel", "false").split()
    if has.lower() != "true" and not labelled:
        return ()
    if has.lower() != "true" or not names:
        raise ConfigError("no classes: expected a header line like '@classLabel true NAME NAME'")
    return tuple(names)


def _sequence(text: str, header: dict[str, str], before: list[np.ndarray]) -> np.ndarray:
    """One case, (length, channels)."""
    if "(" in text:
        raise ConfigError("has timestamps: expected values parted by commas; resample the series first")
    channels = [_values(channel) for channel in text.split(":")]
    stated = header.get("dimensions") or header.get("dimension")
    expected = int(stated) if stated and stated.isdecimal() else before[0].shape[1] if before else len(channels)
    if len(channels) != expected:
        raise ConfigError(f"has {len(channels)} channels: expected {expected}")
    lengths = [len(channel) for channel in channels]
    if len(set(lengths)) > 1:
        other = next(k for k, length in enumerate(lengths) if length != lengths[0])
        raise ConfigError(f"channel {other + 1} has {lengths[other]} values: expected {lengths[0]}, as channel 1")
    sequence = np.stack(channels, axis=1)
    missing = np.isnan(sequence)
    if missing.all():
        raise ConfigError("is an empty sequence: expected at least one value")
    if missing.any() and header.get("missing", "false").lower() != "true":
        raise ConfigError("has a missing value (? or NaN), which the header rules out (@missing false)")
    tail = int(np.argmin(missing.all(1)[::-1]))  # steps without any value at the end are padding
    return sequence[: len(sequence) - tail]


def _values(text: str) -> np.ndarray:
    if not text.strip():
        return np.zeros(0, np.float32)
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named
            values = np.array(text.replace("?", "nan").split(","), np.float32)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if np.isinf(values).any():
        raise ConfigError("has an infinite value")
    return values


def _index(name: str, class_names: tuple[str, ...]) -> int:
    if name not in class_names:
        raise ConfigError(f"class {name!r} is not in the header (@classLabel {' '.join(class_names)})")
    return class_names.index(name)
