# SPDX-License-Identifier: Apache-2.0
"""What is said of memory that does not suffice; the compiler itself is in `compile_test.py`."""

import pytest

from perceiver_jax.training.ahead import overflow


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (37.34G) "
            "exceeds available HBM (15.75G).",
            "37.34GiB of 15.75GiB",
        ),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 37.3G of 15.75G hbm.", "37.3GiB of 15.75GiB"),
        ("the total memory required for HLO temporaries (1.96T) exceeds available HBM (15.75G)", "1.96TiB of 15.75GiB"),
        ("RESOURCE_EXHAUSTED: no\n numbers", "RESOURCE_EXHAUSTED: no numbers"),
    ],
)
def test_what_is_needed_and_what_there_is(message, expected):
    assert overflow(message) == expected
