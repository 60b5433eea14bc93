# SPDX-License-Identifier: Apache-2.0
"""The command line of a process, which can be pasted."""

import sys

import pytest

from perceiver_jax.invocation import command, own_command


def test_command_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["/x/python", "-m", "perceiver_jax.main", "--config=a b.py"])
    assert command() == own_command() == "python -m perceiver_jax.main '--config=a b.py'"
    monkeypatch.setattr(sys, "orig_argv", ["/x/python", "/x/bin/perceiver-jax", "--workdir=a"])
    monkeypatch.setattr(sys, "argv", ["/x/bin/perceiver-jax", "--workdir=a"])
    assert own_command() == "/x/bin/perceiver-jax --workdir=a"


@pytest.mark.parametrize("arguments", [["-m", "pytest", "tests"], ["-m"], ["notebook.py"], []])
def test_the_command_of_another_program_is_not_ours(monkeypatch, arguments):
    monkeypatch.setattr(sys, "orig_argv", ["/x/python", *arguments])
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert own_command() == ""
