# SPDX-License-Identifier: Apache-2.0
"""Two stages, by commands and in Python: codes are made once, the prior holds the autoencoder, images follow."""

import dataclasses
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.local import environment, free_port
from perceiver_jax import experiment, stages
from perceiver_jax.coding import Coder
from perceiver_jax.data import codes
from perceiver_jax.errors import ConfigError
from perceiver_jax.generation import Generator, folder_name
from perceiver_jax.models.slot_autoencoder import as_pixels
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


TWICE = """
import json, sys
from perceiver_jax import command_line
from perceiver_jax.training import processes

def main(argv):
    with processes.joined({}, **command_line.process_flags()):
        import jax
        from perceiver_jax import stages
        from perceiver_jax.data import codes
        for _ in range(2):
            stages.resolve(json.loads(argv[1]), print)
            if jax.process_index() == 1:
                codes.read = lambda file: None  # from here on it does not see the file

command_line.define_processes()
command_line.run(main, words=True)
"""


@pytest.mark.slow
def test_two_processes_encode_together_where_the_first_sees_no_codes(first, prior, tmp_path):
    folder = shutil.copytree(first, tmp_path / "first")
    (file,) = (folder / stages.FOLDER).iterdir()
    expected = file.read_bytes()
    file.unlink()
    where = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--heartbeat_seconds=10"]
    command = [sys.executable, "-c", TWICE, json.dumps(second(folder)), *where]
    both = [
        subprocess.Popen([*command, f"--process_id={i}"], env=environment(1), text=True, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0]
    assert [text.count("encoding 52 images") for text in said] == [1, 0]  # process 0 speaks for all
    assert [*file.parent.iterdir()] == [file] and file.read_bytes() == expected


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
    source = run.source()
    key = stages.fingerprint(run, source)
    assert stages.fingerprint(dataclasses.replace(run, variables=other), source) != key
    moved = {**run.config, "data": {**run.config["data"], "set_seed": 1}}
    assert stages.fingerprint(dataclasses.replace(run, config=moved), source) != key
    assert resolved["data"]["key"] == key == stages.fingerprint(run, run.source())


@pytest.mark.parametrize("change", [{"set_seed": 1}, {"num_test": 9}])
def test_other_examples_under_the_same_config_have_codes_of_their_own(first, change):
    """As where a file of stored images was changed, or one added."""
    run = experiment.load(first)
    other = dataclasses.replace(run.source(), **change)
    assert stages.fingerprint(run, other) != stages.fingerprint(run, run.source())


def test_a_prior_goes_on_with_the_codes_alone_wherever_they_lie(first, prior, run_forked, tmp_path):
    """Stage one was moved and named by another path, and nothing is left of it but the codes; then not these."""
    folder = shutil.copytree(prior[0], tmp_path / "prior")
    shutil.copytree(first / stages.FOLDER, tmp_path / "moved" / stages.FOLDER)
    sizes = ["--config.model.dim=8", "--config.batch_size=8", f"--config.num_steps={STEPS}"]
    command = [f"--config={untrained.ROOT}/configs/svq_prior.py:tiny", "--config.init_from=moved", *sizes]
    said = run_forked("main", *command, "--workdir=prior", cwd=tmp_path)
    assert said.rc == 0, said.stderr
    assert f"changed since the run began: init_from: '{first}' -> '{tmp_path / 'moved'}'" in said.stdout
    config = json.loads((folder / "config.json").read_text())
    assert config["init_from"] == str(tmp_path / "moved") and "encoding" not in said.stdout
    assert config["data"]["path"] == str(tmp_path / "moved" / stages.FOLDER)
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(
        ConfigError, match=f"{folder} needs the codes that it was trained on, and they are not in /gone"
    ):
        stages.resolve(second("/gone"), begun=folder)
    assert stages.resolve(second(first), begun=folder)["init_from"] == str(first)


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
    three, ten = generator.generate(3), generator.generate(10, batch_size=5)
    np.testing.assert_array_equal(three.images, ten.images[:3])
    np.testing.assert_array_equal(three.codes, ten.codes[:3])
    assert ten.images.shape == (10, 16, 16, 3) and ten.images.dtype == np.uint8 and ten.codes.max() < 5
    assert (generator.generate(10, seed=1).codes != ten.codes).any()
    likeliest = generator.generate(10, temperature=1e-5).codes
    assert (likeliest == likeliest[0]).all()
    for wrong, named in (
        ({"temperature": 0.0}, "temperature=0: expected 1e-6 to 1e6"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 1.5}, "top_p=1.5: expected more than 0 and at most 1"),
        ({"num": 0}, "num=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ):
        with pytest.raises(ConfigError, match=named):
            generator.generate(**{"num": 1} | wrong)


def test_images_become_codes_and_codes_images(first, prior):
    """The stored codes, and the run's own images of them; the prior's copy makes the images that it generates."""
    run = experiment.load(first)
    coder = Coder(run)
    (file,) = (first / stages.FOLDER).iterdir()
    found = coder.encode(run.source().load("validation", np.arange(12), None)["image"])
    np.testing.assert_array_equal(found, codes.read(file)["validation"])
    expected = as_pixels(run.predictions("validation", 4)["recon"])
    np.testing.assert_allclose(coder.decode(found).astype(int), np.asarray(expected).astype(int), atol=1)
    made = Generator.from_run(prior[0]).generate(3)
    of_prior = Coder.from_run(prior[0])
    np.testing.assert_allclose(of_prior.decode(made.codes).astype(int), made.images.astype(int), atol=1)
    np.testing.assert_array_equal(of_prior.encode(made.images), coder.encode(made.images))
    images, wrong = made.images, made.codes + 5
    for call, given, named in (
        (coder.encode, images[:, :8], r"images \(3, 8, 16, 3\) of uint8: expected \(images, 16, 16, 3\)"),
        (coder.encode, images / 255, "of float64: .* of uint8"),
        (coder.encode, images[:0], "at least one"),
        (coder.decode, made.codes[0], r"codes \(2, 2\) of int32: expected \(codes, 2, 2\), .* of whole numbers"),
        (coder.decode, made.codes / 1, "of whole numbers"),
        (coder.decode, wrong, f"codes from {wrong.min()} to {wrong.max()}: expected 0 to 4"),
        (coder.decode, made.codes - 5, "expected 0 to 4"),
    ):
        with pytest.raises(ConfigError, match=named):
            call(given)


def test_other_values_have_another_folder():
    """Of files that are generated."""
    how = {"temperature": 1.0, "top_k": None, "top_p": 0.9, "seed": 12345678}
    names = {folder_name(3, how), folder_name(3, how | {"seed": 12345679}), folder_name(3, how | {"top_p": 0.90000001})}
    assert len(names) == 3 and folder_name(3, how) == "00000003-temperature1.0-topp0.9-seed12345678"


def test_generate_writes_images_and_their_codes(run_forked, prior):
    said = run_forked("generate", f"--workdir={prior[0]}", "--num", "3", "--temperature", "0.9", "--seed", "7")
    assert said.rc == 0, said.stderr
    (folder,) = (prior[0] / "generated").iterdir()
    assert folder.name == "00000006-temperature0.9-seed7"
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


def test_swaps_of_soft_prototypes_are_all_made_of_prototypes_alone(first):
    """A code put in the place of the same one changes nothing."""
    run = experiment.load(first)
    model = run.task.model.clone(quantize="soft")
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3), jnp.uint8))
    run = dataclasses.replace(run, task=dataclasses.replace(run.task, model=model), variables=variables)
    image, again, swapped = codes_report._swapped(run, np.array([[0, 1], [2, 3]]), np.array([[0, 1], [2, 4]]))
    assert (swapped.reshape(4, *image.shape)[:3] == image).all() and (swapped[1, 1] == again).all()
    assert (image != again).any()


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
    with pytest.raises(ConfigError, match="makes no codes of images.*quantize='soft'"):
        run = experiment.load(first)
        Coder(dataclasses.replace(run, config={**run.config, "model": {**run.config["model"], "quantize": "soft"}}))
    with pytest.raises(ConfigError, match="makes no codes of images"):
        codes_report.write(experiment.load(prior[0]), ("png",), None)
