# SPDX-License-Identifier: Apache-2.0
"""A source that blocks: the run says where it stands and ends, so that a supervisor can start it again."""

import pytest

from tests.faults.evidence import SMALL, promised, wait_for_line

pytestmark = pytest.mark.faults


def test_a_blocking_source_ends_the_run_with_its_stacks(run_module, start_module, tmp_path):
    arguments = (*SMALL, f"--workdir={tmp_path}")
    result = run_module(*arguments, "--config.watchdog.data_seconds=5", env={"HOLD": "train:7"}, timeout=300)
    assert result.rc == 75
    assert "hang: nothing moved for" in result.stderr and "config.watchdog.data_seconds=5" in result.stderr
    (stacks,) = tmp_path.glob("stacks-*.txt")
    assert str(stacks) in result.stderr
    for text in (result.stderr, stacks.read_text()):
        assert "held.py" in text and "loop.py" in text  # the thread that reads and the one that waits
    again = start_module(*arguments)  # with other limits, which is harmless
    wait_for_line(again.stdout, f"resuming at step {max(promised(tmp_path))}")
