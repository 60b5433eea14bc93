# SPDX-License-Identifier: Apache-2.0
"""Two stages, by commands and in Python: codes are made once, the prior holds the autoencoder, images follow."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import experiment, stages
from perceiver_jax.data import codes
from perceiver_jax.errors import ConfigError
from perceiver_jax.generation import Generator
from perceiver_jax.reports import codes as codes_report
from perceiver_jax.tasks.code_prior import FROZEN
from perceiver_jax.training.loop import train
from perceiver_jax.weights.transfer import leaves
from tests import untrained

FIRST = {
    "model": {"num_slots": 2, "slot_dim": 8, "mlp_dim": 4, "feature_dim": 8, "num_blocks": 2, "codebook_size": 5}
    | {"num_iterations": 1, "initializer": "learned", "continuous_steps": 4},
    "data": {"num_train": 32, "num_validation": 12, "num_test": 8},
    "evaluation": {"batch_size": 4, "every_epochs": 12.0},
    "schedule": {"warmup_steps": 0},
}
FIRST_STEPS, STEPS = 12, 6


@pytest.fixture(scope="module")
def first(tmp_path_factory, run_forked):
    """A run of stage one by the command."""
    folder = tmp_path_factory.mktemp("stages") / "first"
    changes = [f"--config.{part}.{key}={value}" for part, keys in FIRST.items() for key, value in keys.items()]
    changes += ["--config.log_every_steps=4", f"--config.num_steps={FIRST_STEPS}", f"--workdir={folder}"]
    said = run_forked("main", "--config=configs/svq.py:tiny", *changes)
    assert said.rc == 0, said.stderr
    return folder


def second(first, **changes):
    """The config of a prior, not resolved."""
    return (
        untrained.config("svq_prior", "tiny", {"dim": 8}, init_from=str(first), batch_size=8, num_steps=STEPS) | changes
    )


def begun(config):
    """The parts of a run, and what it begins with."""
    training = experiment.build(config)
    transfer = experiment.initial_values(config, experiment.abstract_training_state(training))
    return dataclasses.replace(training, initial=transfer.values), transfer


@pytest.fixture(scope="module")
def prior(run_forked, first):
    """A run of stage two by the command, and what it said."""
    folder = first.with_name("prior")
    sizes = ["--config.model.dim=8", "--config.batch_size=8", f"--config.num_steps={STEPS}"]
    said = run_forked(
        "main", "--config=configs/svq_prior.py:tiny", f"--config.init_from={first}", f"--workdir={folder}", *sizes
    )
    assert said.rc == 0, said.stderr
    return folder, said.stdout + said.stderr


def test_stage_one_trains_and_shows_its_codes(first):
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    (scores,) = (line for line in lines if "validation/perplexity" in line)
    assert np.isfinite([scores[f"validation/{name}"] for name in ("mse", "codes_used", "fg_ari")]).all()
    pictures = {file.name for file in (first / "figures" / "validation").iterdir()}
    assert pictures == {f"{name}_{FIRST_STEPS:08}.png" for name in ("slots", "attention", "code_use")}


def test_the_command_makes_codes_once_and_trains_with_stage_one_frozen(first, prior):
    folder, said = prior
    (file,) = (first / stages.FOLDER).iterdir()
    assert f"encoding 52 images into {file}" in said and "bits_per_code" in said
    stored, run = codes.read(file), experiment.load(first)
    assert {split: array.shape for split, array in stored.items()} == {
        "train": (32, 2, 2),
        "validation": (12, 2, 2),
        "test": (8, 2, 2),
    }
    images = run.source().load("validation", np.arange(12), None)["image"]
    indices = run.task.model.apply(run.variables, jnp.asarray(images), method="encode")[1]
    np.testing.assert_array_equal(stored["validation"], indices)
    trained = experiment.load(folder)
    frozen, found = leaves(trained.variables[FROZEN]), leaves(run.variables)
    assert frozen.keys() == found.keys() and len(found) > 10
    assert all((np.asarray(frozen[path]) == np.asarray(found[path])).all() for path in found)
    state = experiment.abstract_training_state(experiment.build(trained.config))
    assert not any(FROZEN in path for path in (*leaves(state.opt_state), *leaves(state.params)))
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    assert results["num_examples"] == 8 and results["bits_per_code"] > 0 and results["unigram_bits"] >= 0


def test_codes_are_kept_until_the_file_is_damaged_or_the_weights_are_others(first, prior):
    said = []
    resolved = stages.resolve(second(first), said.append)
    file = first / stages.FOLDER / f"{resolved['data']['key']}.npz"
    assert said == [] and resolved["task"]["image_size"] == 16 and resolved["model"]["codebook_size"] == 5
    assert resolved["data"]["key"] == experiment.load(prior[0]).config["data"]["key"]
    content = file.read_bytes()
    file.write_bytes(content[:-30])
    stages.resolve(second(first), said.append)
    assert len(said) == 1 and file.read_bytes() == content
    run = experiment.load(first)
    other = {**run.variables, "params": jax.tree.map(lambda x: x + 1, run.variables["params"])}
    assert stages.fingerprint(dataclasses.replace(run, variables=other)) != stages.fingerprint(run)
    moved = {**run.config, "data": {**run.config["data"], "set_seed": 1}}
    assert stages.fingerprint(dataclasses.replace(run, config=moved)) != stages.fingerprint(run)


def test_stage_two_resumes_bit_for_bit(first, prior, tmp_path):
    """The run of the command beside one that was cut in two."""
    config = stages.resolve(second(first))
    training, transfer = begun(config)
    assert "newly made" in " ".join(transfer.lines()) and all(path.startswith(FROZEN) for path in transfer.values)
    half = dataclasses.replace(training.settings, num_steps=STEPS // 2)
    train(dataclasses.replace(training, settings=half), tmp_path / "cut")
    resumed, _ = begun(config)
    train(resumed, tmp_path / "cut")
    shutil.copytree(prior[0], tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole" / "checkpoints")
    shutil.copytree(tmp_path / "cut" / "checkpoints", tmp_path / "whole" / "checkpoints")
    cut, whole = (leaves(experiment.load(folder, "latest").variables) for folder in (tmp_path / "whole", prior[0]))
    assert cut.keys() == whole.keys()
    assert [path for path in cut if (np.asarray(cut[path]) != np.asarray(whole[path])).any()] == []


def test_image_i_follows_from_the_seed_and_i_alone(prior):
    generator = Generator.from_run(prior[0])
    three, ten = generator.generate(3), generator.generate(10)
    np.testing.assert_array_equal(three.images, ten.images[:3])
    np.testing.assert_array_equal(three.codes, ten.codes[:3])
    assert ten.images.shape == (10, 16, 16, 3) and ten.images.dtype == np.uint8 and ten.codes.max() < 5
    assert (generator.generate(10, seed=1).codes != ten.codes).any()
    likeliest = generator.generate(10, temperature=1e-5).codes
    assert (likeliest == likeliest[0]).all()
    for wrong, named in (
        ({"temperature": 0.0}, "temperature=0: expected more than 0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 1.5}, "top_p=1.5: expected more than 0 and at most 1"),
        ({"num": 0}, "num=0"),
    ):
        with pytest.raises(ConfigError, match=named):
            generator.generate(**{"num": 1} | wrong)


def test_generate_writes_images_and_their_codes(run_forked, prior):
    said = run_forked("generate", f"--workdir={prior[0]}", "--num", "3", "--temperature", "0.9", "--seed", "7")
    assert said.rc == 0, said.stderr
    (folder,) = (prior[0] / "generated").iterdir()
    assert {file.name for file in folder.iterdir()} == {"generated.png", "codes.csv", "codes.json"}
    made = json.loads((folder / "codes.json").read_text())
    assert (made["seed"], made["temperature"], made["top_p"]) == (7, pytest.approx(0.9), None)
    expected = Generator.from_run(prior[0]).generate(3, temperature=0.9, seed=7).codes
    assert [image["codes"] for image in made["images"]] == expected.tolist()
    head, *rows = (folder / "codes.csv").read_text().splitlines()
    assert head == "image,seed,slot,block_0,block_1" and len(rows) == 6
    assert rows[3] == "1,7,1," + ",".join(map(str, expected[1, 1]))


def test_visualize_draws_decompositions_codebooks_and_swaps(first):
    files = codes_report.write(experiment.load(first), ("png",), None)
    assert {file.name for file in files} == {"visualization.png", "codebooks.png", "codebooks.csv", "swaps.png"}
    assert all(file.parent == first / "figures" and file.stat().st_size > 0 for file in files)
    head, *rows = (first / "figures" / "codebooks.csv").read_text().splitlines()
    counts = np.array([row.split(",") for row in rows], int)
    assert head == "codebook,code,count" and counts[:, 2].sum() == 12 * 2 * 2 and len(rows) == 2 * 5


def test_runs_that_make_no_codes_or_have_no_prior_are_said(first, prior):
    with pytest.raises(ConfigError, match="makes no codes of images.*code_prior.*expected a run of configs/svq.py"):
        stages.resolve(second(prior[0]))
    with pytest.raises(ConfigError, match="config.init_from is empty"):
        stages.resolve(second(first, init_from=""))
    with pytest.raises(ConfigError, match="codebook_size=6: .* has 5 codes a block"):
        config = second(first)
        stages.resolve({**config, "model": {**config["model"], "codebook_size": 6}})
    with pytest.raises(ConfigError, match="has no prior to generate from"):
        Generator.from_run(first)
    with pytest.raises(ConfigError, match="makes no codes of images"):
        codes_report.write(experiment.load(prior[0]), ("png",), None)
