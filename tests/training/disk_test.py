# SPDX-License-Identifier: Apache-2.0
"""What is said of a disk; full and read-only ones under real commands are for `faults/disk_test`."""

import errno
import shutil

import pytest

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import disk
from perceiver_jax.training.ledger import Ledger, Promise


@pytest.fixture
def run(tmp_path):
    """A run folder whose steps 3 and 5 are promised."""
    (tmp_path / "checkpoints").mkdir()
    ledger = Ledger(tmp_path / "checkpoints" / "committed.jsonl")
    for step in (3, 5):
        ledger.promise(Promise(step, "x", None, 0.0))
    ledger.close()
    return tmp_path


@pytest.mark.parametrize("place", [".", "checkpoints", "checkpoints/6", "metrics.jsonl"])
def test_every_message_names_the_last_good_step(run, place):
    full, closed = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")
    told = disk.explain(full, run / place, "writing", needed=2_000_000)
    assert isinstance(told, Retry) and "2.0 MB needed" in str(told) and "Step 5 is saved. Free some space" in str(told)
    told = disk.explain(closed, run / place, "writing")
    assert isinstance(told, ConfigError) and "(Read-only file system). Step 5 is saved. Make it writable" in str(told)
    assert disk.explain(OSError(errno.EIO, "Input/output error"), run, "writing") is None


def test_outside_a_run_no_step_is_named(tmp_path):
    assert disk.saved(tmp_path / "a" / "b") == ""


def test_space_is_compared_with_what_will_be_kept(run, caplog):
    free = shutil.disk_usage(run).free
    disk.check_space(run / "checkpoints", one=free // 4, num_kept=2)
    assert not caplog.records
    disk.logging.getLogger("perceiver_jax").propagate = True
    disk.check_space(run / "checkpoints", one=free // 2, num_kept=4)
    assert "4 checkpoints of" in caplog.text and "will not fit" in caplog.text
    with pytest.raises(Retry, match=r"checkpoints: no space left for a checkpoint: .* MB needed, .* Step 5 is saved"):
        disk.check_space(run / "checkpoints", one=2 * free, num_kept=1)
