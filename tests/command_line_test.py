# SPDX-License-Identifier: Apache-2.0
"""Wrong commands end with one clear line and exit 78, before anything is compiled."""

import pytest

SOLIDS = "--config=configs/solids.py"
TABLE = [
    (("main",), "--config is missing"),
    (("main", SOLIDS, "extra"), "argument 'extra' is not a flag"),
    (("main", SOLIDS, "--workdr=x"), "Unknown command line flag 'workdr'. Did you mean: workdir"),
    (("main", "--config=configs/solid.py"), "configs/solid.py"),
    (("main", "--config=configs/solids.py:tinny"), "variant 'tinny' is unknown; did you mean 'tiny'"),
    (("main", SOLIDS, "--config.model.num_latens=4"), 'Did you mean "num_latents"'),
    (("main", SOLIDS, "--config.model.num_latents=many"), "num_latents"),
    (("main", SOLIDS, "--config.batch_size=999999"), "is more than the"),
    (("main", SOLIDS, "--config.micro_batches=7"), "micro_batches=7: expected a divisor of batch_size=64"),
    (("main", SOLIDS, "--config.mesh.fsdp=3"), "does not cover 1 devices"),
    (
        ("main", SOLIDS, "--config.model.num_self_attend_heads=7"),
        "num_self_attend_heads=7 does not divide latent_dim",
    ),
    (("main", SOLIDS, "--config.model.attention=flash"), "attention='flash' is unknown"),
    (("main", SOLIDS, "--config.optimizer.weight_decay=-1.0"), "weight_decay=-1.0"),
    (("main", SOLIDS, "--config.schedule.name=cosin"), "did you mean 'cosine'"),
    (
        ("main", "--config=configs/modelnet40.py", "--config.data.path=/nowhere", "--config.data.download=False"),
        "modelnet40_ply_hdf5_2048.zip",
    ),
    (("evaluate",), "--workdir is missing"),
    (("evaluate", "--workdir=/nowhere"), "is not a run folder"),
    (("check_data",), "--config is missing"),
]


@pytest.mark.parametrize(("command", "expected"), TABLE, ids=[" ".join(command)[:60] for command, _ in TABLE])
def test_one_line_and_exit_78(run_forked, tmp_path, command, expected):
    module, *arguments = command
    workdir = [] if module != "main" else [f"--workdir={tmp_path / 'run'}"]
    result = run_forked(module, *arguments, *workdir)
    assert result.rc == 78, result
    assert expected in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 2, result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()
