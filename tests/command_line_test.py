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
    (("main", SOLIDS, "--config_overlay=none.json"), "--config_overlay=none.json cannot be read"),
    (("main", SOLIDS, "--process_id=1"), "--process_id=1: expected all three, or a cluster that says the rest"),
    (("evaluate",), "--workdir is missing"),
    (("evaluate", "--workdir=/nowhere"), "is not a run folder"),
    (("evaluate", "--workdir=/nowhere", "--format=png,gif"), "--format=png,gif: expected some of png, svg, pdf"),
    (("main", "--config=configs/svq_prior.py"), "config.init_from is empty: expected the folder of a run"),
    (("main", "--config=configs/svq_prior.py", "--config.init_from=nowhere"), "nowhere is not a run folder"),
    (("generate", "--workdir=/nowhere"), "/nowhere is not a run folder"),
    (("generate", "--workdir=/nowhere", "--temperature=0"), "temperature=0: expected 1e-6 to 1e6"),
    (("generate", "--workdir=/nowhere", "--temperature=-1", "--top_p=1.5"), "top_p=1.5: expected more than 0 and at"),
    (("generate", "--workdir=/nowhere", "--top_p=0"), "top_p=0.0: expected more than 0 and at most 1"),
    (("generate", "--workdir=/nowhere", "--num=0"), "num=0: expected at least 1"),
    (("visualize", "svq", "--workdir=/nowhere"), "is not a run folder"),
    (("compare", "a"), "compare needs two runs at least"),
    (("ablate",), "--config is missing"),
    (("compile",), "--config is missing"),
    (("compare", "a", "b"), "a is not a run folder: it has no config.json"),
    (("check_data",), "--config is missing"),
    (("visualize", "attention", "--workdir=/nowhere"), "is not a run folder"),
    (("visualize", "attention", "--fusion=median"), "value should be one of <mean|max|min>"),
    (("visualize", "result"), "expected one of"),
    (("visualize", "results", "--output_dir=nowhere"), "nowhere is not a run folder"),
    (("visualize", "demo", "--logs_dir=nowhere", "--port=70000"), "--port"),
]


@pytest.mark.parametrize(("command", "expected"), TABLE, ids=[" ".join(command)[:60] for command, _ in TABLE])
def test_one_line_and_exit_78(run_forked, tmp_path, command, expected):
    module, *arguments = command
    workdir = [] if module != "main" else [f"--workdir={tmp_path / 'run'}"]
    here = {} if module == "main" else {"cwd": tmp_path}  # where there are no runs
    result = run_forked(module, *arguments, *workdir, **here)
    assert result.rc == 78, result
    assert expected in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 2, result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_code_that_another_start_does_not_mend_is_noted(run_forked, tmp_path):
    result = run_forked("main", SOLIDS, "--process_id=1", env={"PERCEIVER_JAX_EXIT_CODES": str(tmp_path)})
    (note,) = tmp_path.iterdir()
    assert (result.rc, note.read_text()) == (78, "78\n")


def test_an_overlay_wins_over_the_config_and_flags_win_over_both(monkeypatch, tmp_path):
    from absl import flags

    from perceiver_jax import command_line
    from perceiver_jax.errors import ConfigError

    file = tmp_path / "config.json"
    file.write_text('{"batch_size": 16, "optimizer": {"learning_rate": 1e-4}, "data": {"scale": [0.5, 2.0]}}')
    yaml = tmp_path / "config.yaml"
    yaml.write_text("num_epochs: 2.5\nmodel: {num_latents: 7}\n")
    own = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", own)
    monkeypatch.setattr(command_line.flags, "FLAGS", own)
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", flag_values=own)
    flags.DEFINE_string("config_overlay", "", "", flag_values=own)

    def parse(*arguments):
        argv = command_line.with_overlay(["main", *arguments])
        monkeypatch.setattr("sys.argv", argv)
        own.unparse_flags()
        own(argv)
        return own.config

    config = parse("--config_overlay", str(file), SOLIDS, "--config.batch_size=8")
    assert (config.batch_size, config.optimizer.learning_rate, config.data.scale) == (8, 1e-4, (0.5, 2.0))
    config = parse("--config", SOLIDS.partition("=")[2], f"--config_overlay={yaml}")
    assert (config.num_epochs, config.model.num_latents) == (2.5, 7)
    assert command_line.with_overlay(["main", SOLIDS]) == ["main", SOLIDS]
    for text, message in (("[1]", "expected keys and values, got list"), ("a: [", "cannot be read")):
        yaml.write_text(text)
        with pytest.raises(ConfigError, match=message):
            parse(SOLIDS, f"--config_overlay={yaml}")
