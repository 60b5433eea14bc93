# SPDX-License-Identifier: Apache-2.0
"""The command line of this process, for records and for errors that end with what to run again."""

import shlex
import sys
from pathlib import Path

OWN = ("perceiver_jax", "benchmarks")  # packages whose modules are commands
SCRIPT = "perceiver-jax"


def command() -> str:
    """The command line that starts this process again."""
    if sys.orig_argv[1:2] == ["-m"]:
        return shlex.join(["python", *sys.orig_argv[1:]])
    return shlex.join(sys.argv)


def own_command() -> str:
    """`command`, if it is one of this project; empty in a notebook, a test or another program."""
    module = sys.orig_argv[2] if sys.orig_argv[1:2] == ["-m"] and len(sys.orig_argv) > 2 else ""
    own = module.split(".")[0] in OWN or Path(sys.argv[0]).name == SCRIPT
    return command() if own else ""
