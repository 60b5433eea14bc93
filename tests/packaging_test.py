# SPDX-License-Identifier: Apache-2.0
"""What is installed and how: the pins, pyproject.toml, the Makefile and .ci/run."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
PINS = dict(line.split("==") for line in LINES)
PINS = {canonicalize_name(name): version for name, version in PINS.items()}


def test_requirements_are_exact_pins_for_every_python_and_without_tensorflow():
    assert [line for line in LINES if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert len(PINS) == len(LINES)
    assert not {"tensorflow", "tensorflow-cpu", "tf-nightly", "torch"} & set(PINS)


def test_every_dependency_is_pinned_within_its_bounds():
    for wanted in map(Requirement, PROJECT["dependencies"]):
        assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), wanted


def test_the_pins_are_closed():
    """Whatever a pinned package needs here is pinned as well, at a version it accepts."""
    for name in PINS:
        for wanted in map(Requirement, importlib.metadata.requires(name) or []):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), f"{name} needs {wanted}"


def test_a_version_is_pinned_in_one_place():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"cuda12", "cuda13", "tpu", "bench", "test"}
    names = [canonicalize_name(Requirement(line).name) for extra in ("bench", "test") for line in extras[extra]]
    assert set(names) & set(PINS) == set()


def test_the_test_tools_are_closed():
    """The Makefile installs them without their dependencies."""
    tools = {canonicalize_name(Requirement(line).name) for line in PROJECT["optional-dependencies"]["test"]}
    for name in tools:
        for wanted in map(Requirement, importlib.metadata.requires(name) or []):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in tools | set(PINS), f"{name} needs {wanted}"


def test_the_console_script_exists():
    module, _, function = PROJECT["scripts"]["perceiver-jax"].partition(":")
    # A process of its own: two verbs may define the same flag.
    code = f"from {module} import {function}; assert callable({function})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def make(*arguments):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }
    command = ["make", "-C", str(ROOT), "--no-print-directory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "--config=configs/solids.py --workdir=runs/solids"),
        (
            ["CONFIG=configs/solids.py:tiny", "ARGS=--x=1"],
            "--config=configs/solids.py:tiny --workdir=runs/solids-tiny --x=1",
        ),
        (["CONFIG=configs/a.py:b,c"], "--config=configs/a.py:b,c --workdir=runs/a-b-c"),
        (["WORKDIR=there"], "--config=configs/solids.py --workdir=there"),
    ],
)
def test_make_train_runs_main(arguments, command):
    last = make("--dry-run", "train", *arguments).stdout.splitlines()[-1]
    assert last.rstrip() == f".venv/bin/python -m perceiver_jax.main {command}"


def test_make_test_runs_ruff_and_the_suite():
    commands = make("--dry-run", "test").stdout
    assert all(f".venv/bin/python -m {tool}" in commands for tool in ("ruff check", "ruff format --check", "pytest"))


def test_an_old_python_is_named(tmp_path):
    """In a fresh copy of the Makefile, with a Python that says it is too old."""
    (tmp_path / "old").write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.8.1\nexit 1\n')
    (tmp_path / "old").chmod(0o755)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    result = make("-C", str(tmp_path), "setup", f"PYTHON={tmp_path / 'old'}")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr and "Python 3.8.1" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_make_test_and_nothing_more():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert lines[:2] == ["#!/usr/bin/env bash", "set -euo pipefail"] and lines[-1] == "make test"
