# SPDX-License-Identifier: Apache-2.0
"""Variants by name, and every combination of swept values."""

from perceiver_jax.variants import chosen, swept


def test_sweeps_combine():
    found = swept("c.py", ["model.num_slots=4,6", "config.data.scale=(0.5, 2.0),[1,1]"])
    assert [variant.name for variant in found] == [
        f"num_slots={slots}-scale={scale}" for slots in (4, 6) for scale in ("_0.5_2.0_", "_1_1_")
    ]
    assert found[1].arguments(["--config.seed=1"]) == [
        "--config=c.py",
        "--config.seed=1",
        "--config.model.num_slots=4",
        "--config.data.scale=[1,1]",
    ]


def test_a_file_names_its_own(tmp_path):
    file = tmp_path / "c.py"
    file.write_text('ABLATIONS = ("narrow", "flat")\n')
    found = chosen(f"{file}:tiny", [], ["base", "flat"])
    assert [(variant.name, variant.config) for variant in found] == [
        ("base", f"{file}:tiny"),
        ("flat", f"{file}:tiny,flat"),
    ]
    assert chosen(str(file), [], ["narrow"])[0].config == f"{file}:narrow"


def test_a_stage_follows_a_run_of_the_config_itself(tmp_path):
    file = tmp_path / "first.py"
    file.write_text('ABLATIONS = ("flat",)\nNEXT_STAGES = {"prior": "second.py"}\n')
    base, flat, prior = chosen(f"{file}:tiny,wide", [], [])
    assert (base.follows, flat.follows, prior.follows) == ("", "", "base")
    given = ["--config.num_steps=9", "--config.model.num_slots=3", "--config.evaluation.batch_size=8"]
    assert flat.arguments(given) == [f"--config={file}:tiny,wide,flat", *given]
    assert prior.arguments(given) == [f"--config={tmp_path}/second.py:tiny", given[0], given[2]]
    assert [variant.name for variant in chosen(str(file), [], ["prior"])] == ["base", "prior"]
