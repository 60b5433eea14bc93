# SPDX-License-Identifier: Apache-2.0
"""Damaged files and random configs: always a result or a clear error, never another exception, a hang or wrong data.

100 inputs a reader here, the same every time; 2,000 random ones with
`python -m pytest tests/fuzz_test.py --hypothesis-profile=fuzz`.
"""

import contextlib
import functools
import os
import resource
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.registry import PARTS
from tests.readers import READERS, objects_config, solids_config

LONGEST = {signal.ITIMER_VIRTUAL: 20, signal.ITIMER_REAL: 300}  # seconds of work, and of waiting
MOST = 1 << 30  # bytes it may allocate
NUMBERS = (b"-1", b"0", b"4294967296", b"99999999999999999999", b"1e999", b"nan", b"1e300")


class HangError(BaseException):
    """Not an Exception, so that nothing takes it for a broken file."""


@contextlib.contextmanager
def bounded():
    """Ends what takes too long, and refuses memory that no small file needs."""

    def stop(*_):
        raise HangError("no end in sight")

    before = [signal.signal(number, stop) for number in (signal.SIGVTALRM, signal.SIGALRM)]
    memory = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST, memory[1]))
    for timer, seconds in LONGEST.items():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in LONGEST:
            signal.setitimer(timer, 0)
        for number, handler in zip((signal.SIGVTALRM, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_DATA, memory)


damages = st.lists(
    st.tuples(
        st.sampled_from(("flip", "truncate", "insert", "delete", "splice", "number", "line")),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damage: list) -> bytes:
    """The content after each of the changes; places count modulo its length."""
    for kind, first, second, new in damage:
        at = first % (len(content) + 1)
        length = second % 16 if second % 2 else second % (len(content) + 1)
        if kind == "flip" and content:
            at = first % len(content)
            content = content[:at] + bytes([content[at] ^ (1 << second % 8)]) + content[at + 1 :]
        elif kind == "truncate":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + length :]
        elif kind == "splice":
            content = content[:at] + content[second % (len(content) + 1) :]
        elif kind == "number":
            content = _with_number(content, at, NUMBERS[second % len(NUMBERS)])
        elif kind == "line":
            lines = content.split(b"\n")
            lines.insert(first % len(lines), lines[second % len(lines)])
            content = b"\n".join(lines)
    return content


def _with_number(content: bytes, at: int, number: bytes) -> bytes:
    """Another number in the place of the first one from `at` on."""
    digits = b"+-.0123456789"
    start = next((i for i in range(at, len(content)) if content[i] in digits), len(content))
    end = next((i for i in range(start, len(content)) if content[i] not in digits), len(content))
    return content[:start] + number + content[end:]


@pytest.fixture(scope="module", params=READERS, ids=lambda reader: reader.name)
def written(request, tmp_path_factory):
    """A reader, the folder that was written for it and the files to damage."""
    folder = tmp_path_factory.mktemp("good")
    request.param.write(folder)
    files = sorted(path for path in folder.glob(request.param.damage) if path.is_file())
    assert files
    return request.param, folder, [(file.relative_to(folder), file.read_bytes()) for file in files]


def test_what_is_whole_is_read(written, tmp_path):
    reader, folder, _ = written
    shutil.copytree(folder, tmp_path / "copy")
    reader.read(tmp_path / "copy")


@settings(suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 2**16), damage=damages)
def test_a_damaged_file_is_read_or_named(written, tmp_path_factory, which, damage):
    reader, folder, files = written
    name, content = files[which % len(files)]
    with _copy(folder, tmp_path_factory.getbasetemp() / "damaged") as copy:
        (copy / name).unlink()
        (copy / name).write_bytes(damaged(content, damage))
        with bounded():
            try:
                reader.read(copy)
            except (ConfigError, Retry) as error:
                assert str(error) and "\n" not in str(error), error


@contextlib.contextmanager
def _copy(folder: Path, copy: Path):
    """A folder of hard links: what is damaged there must be unlinked first."""
    shutil.copytree(folder, copy, copy_function=os.link)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-5, 5), st.floats(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(-5, 5), max_size=2),
)


def alike(value):
    """Other values of the same type: small, odd and huge ones."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(st.integers(-3, 20), st.sampled_from((2**31 - 1, 10**6, -(2**31))))
    if isinstance(value, float):
        return st.one_of(st.floats(-2, 3), st.sampled_from((0.0, 1.0, 1e-30, 1e30, -1.0)))
    if isinstance(value, str):
        return st.sampled_from(sorted({name for kind in PARTS.values() for name in kind} | {"none", "all", "", "max"}))
    return ANYTHING


def paths(section, prefix=()):
    """The way to every value and every section."""
    for key, value in section.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, key))


@st.composite
def changed_configs(draw):
    """A config, of latents or of slots, with up to three values changed, removed or added."""
    config = draw(st.sampled_from((solids_config, objects_config)))()
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(paths(config))))
        section = functools.reduce(lambda section, key: section[key], way, config)
        how = draw(st.sampled_from(("alike", "alike", "alike", "anything", "remove", "add")))
        if how == "remove":
            del section[last]
        elif how == "add":
            section[draw(st.text(max_size=6))] = draw(ANYTHING)
        else:
            section[last] = draw(alike(section[last]) if how == "alike" else ANYTHING)
    return config


@settings(suppress_health_check=list(HealthCheck))
@given(config=changed_configs())
def test_a_changed_config_is_built_or_refused(config):
    with bounded():
        try:
            training = experiment.build(config)
            state = experiment.abstract_training_state(training)
        except ConfigError as error:
            assert str(error) and "\n" not in str(error)
            return
    numbers = training.settings
    assert 1 <= numbers.num_steps < 2**31 and numbers.steps_per_epoch >= 1 and numbers.batch_size >= 1
    assert np.isfinite(float(training.schedule(0))) and float(training.schedule(numbers.num_steps - 1)) >= 0
    assert all(size > 0 for leaf in jax.tree.leaves(state) for size in leaf.shape)
