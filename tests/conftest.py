# SPDX-License-Identifier: Apache-2.0
"""What all tests share: shapes checked at run time, one compile cache, commands as subprocesses, loud skips.

The compile cache serves a test session and the commands it starts, and is deleted with it: a command that a
test kills may leave a cut-off entry behind, which must not outlive the session. JAX_COMPILATION_CACHE_DIR=DIR
keeps one, JAX_COMPILATION_CACHE_DIR= goes without.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401 (named as text below)

ROOT = Path(__file__).resolve().parents[1]

install_import_hook("perceiver_jax", "tests.typechecker.checked")  # before the first import of the package
hypothesis.settings.register_profile("same every time", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("fuzz", deadline=None, derandomize=False, max_examples=2000, database=None)
hypothesis.settings.load_profile("same every time")  # --hypothesis-profile=fuzz: many more, others each time

OWN_CACHE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="perceiver_jax-xla-")
DEFAULTS = {  # read when jax is imported, here and in the commands that tests start
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # of machine code: compiling takes most of the time of the suite
    "JAX_COMPILATION_CACHE_DIR": OWN_CACHE or "",
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)


class Result(NamedTuple):
    """How a command ended and what it said."""

    rc: int
    stdout: str
    stderr: str


def _kill(process):
    """The command and what it started (data workers), at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


@pytest.fixture
def start_module():
    """`start_module("main", "--config=...", env={})` starts `python -m perceiver_jax.main ...`.

    Returns the `subprocess.Popen`, with text pipes; its process group ends with the test.
    """
    started = []

    def start(module, *args, env=None, cwd=ROOT):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
        command = [sys.executable, "-m", f"perceiver_jax.{module}", *map(str, args)]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        _kill(process)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def run_module(start_module):
    """`run_module("evaluate", "--workdir=...", timeout=60)` -> `Result(rc, stdout, stderr)`."""

    def run(module, *args, timeout=120, env=None, cwd=ROOT):
        process = start_module(module, *args, env=env, cwd=cwd)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            stdout, stderr = process.communicate()
            pytest.fail(f"{module} {args} did not end within {timeout} s\n{stdout[-2000:]}\n{stderr[-4000:]}")
        return Result(process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="module")
def run_forked():
    """As `run_module`, but forked from one process that has the libraries: for tables of commands that soon end."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "forked.py")],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )

    def run(module, *arguments, env=None, cwd=ROOT):
        request = {"module": module, "arguments": list(map(str, arguments)), "env": env or {}, "cwd": str(cwd)}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return Result(**json.loads(process.stdout.readline()))

    yield run
    process.stdin.close()
    _kill(process)
    process.stdout.close()


def pytest_unconfigure(config):
    """The very last line counts the skips; the session's compile cache goes."""
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist: its controller does both
        return
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not config.option.collectonly:
        skipped = len(terminal.stats.get("skipped", []))
        terminal.write_line(f"SKIPPED: {skipped}", yellow=bool(skipped), bold=bool(skipped))
    if OWN_CACHE is not None:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)
