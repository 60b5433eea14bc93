# SPDX-License-Identifier: Apache-2.0
"""What is kept when, over interruptions too; a run learns the same with and without; what is too large is left out."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import Retry
from perceiver_jax.models.adapters import PointAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions
from perceiver_jax.reports import attention_maps
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training.capture import Capture, CaptureSettings, about, chosen_ids, picture_grid
from perceiver_jax.training.console import Console
from perceiver_jax.training.loop import train
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.watchdog import Limits
from perceiver_jax.training.writers import Writers
from tests.training.loop_test import final_state, stop_at, timeless
from tests.training.toy import Blobs, make_training

INPUTS, EXAMPLES = 6, 4
PATIENT = Limits(**dict.fromkeys((field.name for field in dataclasses.fields(Limits)), 900.0))
ENCODER = dict(num_self_attends_per_block=1, num_self_attend_heads=1, cross_attend_width="latents")


@dataclasses.dataclass(frozen=True)
class Clouds(Blobs):
    """Blobs as clouds of points."""

    spec = Spec(
        {"points": ArraySpec((INPUTS, 3), "float32"), "label": ArraySpec((), "int32")}, class_names=("a", "b", "c")
    )

    def load(self, split, ids, epoch):
        blobs = super().load(split, ids, epoch)
        grid = np.linspace(-1, 1, INPUTS * 3, dtype=np.float32).reshape(INPUTS, 3)
        return {"points": grid * blobs["x"][:, None, :3], "label": blobs["label"]}


def training(every=2, max_bytes=2**20, **settings):
    """24 steps of a tiny Perceiver in 3 epochs."""
    adapter = PointAdapter(FourierPositions(2, 4.0, parent=None), parent=None)
    model = Perceiver(adapter, PerceiverEncoder(2, 8, **ENCODER, parent=None), num_classes=3)
    capture = CaptureSettings(every=every, num_examples=EXAMPLES, max_bytes=max_bytes)
    made = make_training(source=Clouds(), attention=capture, ema_decay=0.9, limits=PATIENT, **settings)
    return dataclasses.replace(made, task=Classification(model=model, input_name="points", num_classes=3))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that kept maps, and its history."""
    workdir = tmp_path_factory.mktemp("kept")
    return workdir, train(training(), workdir)


def everything(workdir):
    """All that is kept, by file and array."""
    folder = workdir / "attention"
    arrays = {file.name: dict(np.load(file)) for file in sorted(folder.glob("*.npz"))}
    return json.loads((folder / "about.json").read_text()), arrays


def test_first_every_other_and_last_epoch_with_the_averaged_parameters(kept):
    workdir, _ = kept
    found, arrays = everything(workdir)
    assert found["steps"] == {"00000008": 1.0, "00000016": 2.0, "00000024": 3.0}
    assert attention_maps.steps(workdir) == [8, 16, 24]
    run = training()
    state = final_state(run, workdir)[0]
    examples = arrays["examples.npz"]
    batch = {name: jax.device_put(examples[name]) for name in ("points", "label", "id")}
    expected = run.task.attention_maps()(state.variables(), batch)
    maps = attention_maps.read(workdir, 24)
    assert arrays["00000024.npz"]["cross"].dtype == np.float16 and maps["cross"].shape == (EXAMPLES, 1, 1, 2, INPUTS)
    for name in ("cross", "latent", "probabilities"):
        np.testing.assert_allclose(maps[name], expected[name], atol=1e-3)
    np.testing.assert_allclose(maps["cross"].sum(-1), 1, atol=2e-3)
    assert not np.array_equal(maps["cross"], attention_maps.read(workdir, 8)["cross"])
    np.testing.assert_array_equal(examples["label"], run.source.labels("validation")[examples["id"]])
    assert [len(found["axes"][name]) for name in ("cross", "latent")] == [maps["cross"].ndim, maps["latent"].ndim]


def test_a_run_learns_the_same_bit_for_bit_without(kept, tmp_path):
    assert timeless(train(training(every=0), tmp_path)) == timeless(kept[1])
    assert not (tmp_path / "attention").exists()


def test_clouds_are_in_tensorboard(kept):
    events = EventAccumulator(str(kept[0])).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if "attention" in tag]
    assert [event.step for event in events.Tensors(tags[0])] == [8, 16, 24]


@pytest.mark.parametrize("step", [8, 20])
def test_nothing_is_missing_or_doubled_after_a_stop(step, kept, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, step)
        train(training(), tmp_path)
    if step == 20:  # as a run that was killed later than its last checkpoint leaves it
        (tmp_path / "attention" / "00000024.npz").write_bytes(b"cut off")
        listed = json.loads((tmp_path / "attention" / "about.json").read_text())
        listed["steps"] |= {"00000023": 2.9, "00000024": 3.0}
        (tmp_path / "attention" / "about.json").write_text(json.dumps(listed))
    train(training(), tmp_path)
    (found, arrays), (expected, expected_arrays) = everything(tmp_path), everything(kept[0])
    assert found == expected
    jax.tree.map(np.testing.assert_array_equal, arrays, expected_arrays)


def test_process_0_alone_writes(kept, tmp_path, monkeypatch):
    made, variables = (
        capture(tmp_path, steps_per_epoch=8, num_steps=24),
        final_state(training(), kept[0])[0].variables(),
    )
    for index in (1, 0):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        made.keep(8, variables, Writers(tmp_path, process_index=1))
        assert (tmp_path / "attention" / "00000008.npz").exists() == (index == 0)


def test_too_large_is_said_once_and_training_goes_on(kept, tmp_path, capsys):
    history = train(training(max_bytes=100), tmp_path, Console())
    said = [line for line in capsys.readouterr().out.splitlines() if "attention maps are not kept" in line]
    assert len(said) == 1 and "max_bytes=100" in said[0] and "num_examples" in said[0]
    assert timeless(history) == timeless(kept[1]) and not (tmp_path / "attention").exists()


def capture(tmp_path, every=10, **sizes):
    made = training()
    settings = CaptureSettings(every=every)
    return Capture(made.task, made.source, made.mesh, tmp_path, settings, say=print, **sizes)


@pytest.mark.parametrize(
    ("every", "epoch", "total", "expected"),
    [
        (10, 8, 200, [8, 80, 160, 200]),
        (1, 8, 24, [8, 16, 24]),
        (10, 8, 12, [8, 12]),
        (10, 100, 8, [4, 8]),
        (10, 8, 8, [4, 8]),
        (10, 8, 1, [0, 1]),
        (0, 8, 200, []),
    ],
)
def test_when_it_is_due(every, epoch, total, expected, tmp_path):
    kept = capture(tmp_path, every, steps_per_epoch=epoch, num_steps=total)
    assert [step for step in range(total + 1) if kept.due(step)] == expected


def test_an_early_end_is_the_last(tmp_path):
    kept = capture(tmp_path, steps_per_epoch=8, num_steps=200)
    assert kept.due(33, last=True) and not kept.due(33)


def test_a_model_that_does_not_attend_keeps_nothing(tmp_path):
    linear = make_training()
    kept = Capture(
        linear.task, linear.source, make_mesh(), tmp_path, CaptureSettings(1), steps_per_epoch=8, num_steps=8, say=print
    )
    assert not kept.due(8)


def test_examples_are_of_as_many_classes_as_there_are():
    labels = np.array([2, 2, 0, 0, 0, 1, 1, 2])
    assert labels[chosen_ids(labels, 3)].tolist() == [0, 1, 2]
    assert labels[chosen_ids(labels, 5)].tolist() == [0, 1, 2, 0, 1]
    assert labels[chosen_ids(labels, 2)].tolist() == [0, 2]
    assert len(chosen_ids(labels, 99)) == 8


def test_inputs_of_images_have_a_place():
    assert picture_grid((32, 32), 1024) == (1, [32, 32])
    assert picture_grid((32, 48), 24) == (8, [4, 6])
    assert picture_grid((225, 225), 57 * 57) == (4, [57, 57])  # a convolution and a pooling of stride 2
    assert picture_grid((32, 32), 7) == (1, None)


def test_pixels_in_another_order_and_the_object_are_said():
    source = Drawings(size=8, permutation_seed=1)
    plain = dataclasses.replace(source, permutation_seed=None)
    ids = np.arange(4)
    batch, more = source.load("validation", ids, None), source.pictured("validation", ids)
    described = about(source.spec, batch, 64, more["pixel_order"])
    assert (described["kind"], described["grid"], described["patch"]) == ("image", [8, 8], 1)
    order = described["permutation"]
    expected = plain.load("validation", ids, None)["image"].reshape(4, 64, 3)
    np.testing.assert_array_equal(batch["image"].reshape(4, 64, 3), expected[:, order])
    objects = plain.pictured("validation", ids)["object"]
    np.testing.assert_array_equal(more["object"].reshape(4, 64), objects.reshape(4, 64)[:, order])
    image = expected.reshape(4, 8, 8, 3).astype(float)
    for k in range(4):  # a figure and its background differ in brightness
        assert abs(image[k][objects[k]].mean() - image[k][~objects[k]].mean()) > 30
