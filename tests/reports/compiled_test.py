# SPDX-License-Identifier: Apache-2.0
"""What the table says of a step that fits, of one that does not, and of an input that is gathered."""

import pytest

from perceiver_jax.reports.compiled import print_compiled

FACTS = {
    "topology": "v5e:2x4",
    "mesh": {"data": 8, "fsdp": 1},
    "chip": "TPU v5 lite",
    "gibibytes": 16,
    "batch_size": 64,
    "notes": ["attention: dense"],
    "memory": {"arguments": 2**20, "outputs": 0, "temporaries": 3 * 2**20, "peak": 2**22},
    "overflow": "",
    "flops": 5e9,
    "xla_flops": None,
    "collectives": [{"kind": "all-reduce", "count": 13, "num_bytes": 2**21}],
    "gathered": [],
}


def words(capsys, **changes):
    print_compiled(FACTS | changes)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "temporaries 3.0 MiB memory: peak 4.0 MiB memory: the chip has 16 GiB fits yes FLOPs, by formula 5.0 G",
        ),
        ({}, "all-reduce (13) 2.0 MiB The input is not gathered"),
        (
            {"collectives": [], "gibibytes": None},
            "the chip has not known fits yes FLOPs, by formula 5.0 G collectives none",
        ),
        ({"gathered": [[8, 2048]]}, "The input is gathered on every device: [8, 2048]."),
        ({"memory": None, "overflow": "37GiB of 15GiB", "collectives": []}, "fits no: needs 37GiB of 15GiB"),
    ],
)
def test_what_is_said(capsys, changes, said):
    assert said in words(capsys, **changes)
