# SPDX-License-Identifier: Apache-2.0
"""Figures of every kind of run, of the epochs that are asked for; wrong wishes end in one line, and nothing written."""

import types

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_arrays, read_json, write_arrays, write_json
from perceiver_jax.metrics.attention import rollout
from perceiver_jax.reports import attention_examples, attention_maps, attention_report
from perceiver_jax.reports.attention_report import Choice, prepared
from tests.reports.attention_files import write_run

PLAIN = dict(colormap="viridis", alpha=0.7, create_evolution=False, stage=None, head=None, fusion="mean")
PLAIN |= dict(rollout=False, step=None, epoch=None)
ALL = Choice(None, None, "mean", False)


def write(run, formats=("png",), **flags):
    return [file.name for file in attention_report.write(run, formats, types.SimpleNamespace(**PLAIN | flags))]


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", "image", steps=(8, 20))


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("image", {}),
        ("points", {"rollout": True, "colormap": "seismic"}),
        ("sequence", {"stage": 2, "fusion": "max"}),
        ("text", {"head": 1, "colormap": "hot"}),
    ],
)
def test_each_kind_has_both_figures(kind, flags, tmp_path):
    run = write_run(tmp_path, kind, steps=(8, 20))
    names = write(run, epoch=2.5, create_evolution=True, **flags)
    assert names == ["comprehensive_epoch_2.5_analysis.png", "attention_evolution_analysis.png"]
    for name in names:
        assert np.asarray(Image.open(run / "figures" / name).convert("L")).std() > 5


def test_all_epochs_are_drawn_unless_one_is_asked_for(run, monkeypatch):
    monkeypatch.setattr(attention_report.canvas, "rendered", lambda figure, kind: kind.encode())
    both = ["comprehensive_epoch_1_analysis", "comprehensive_epoch_2.5_analysis"]
    assert write(run, ("png", "svg", "pdf")) == [f"{name}.{kind}" for name in both for kind in ("png", "svg", "pdf")]
    assert write(run, step=20) == [f"{both[1]}.png"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"step": 9}, r"no attention maps of step 9: there are those of step 8 \(epoch 1\), 20 \(epoch 2.5\)"),
        ({"epoch": 2.0}, r"no attention maps of epoch 2: there are those of step 8"),
        ({"stage": 3}, "--stage=3: the run has stages 1 to 2"),
        ({"head": 0}, "--head=0: the run has heads 1 to 2"),
        (
            {"colormap": "rainbow"},
            "--colormap=rainbow: expected one of viridis, plasma, inferno, jet, hot, cool",
        ),
        ({"alpha": 1.5}, "--alpha=1.5: expected 0"),
        ({"rollout": True, "stage": 1}, "--rollout goes through all stages"),
    ],
)
def test_wrong_wishes_end_in_one_line_and_nothing_is_written(flags, line, run):
    with pytest.raises(ConfigError, match=line):
        write(run, create_evolution=True, **flags)
    assert not (run / "figures").exists()


def test_what_is_drawn_is_relative_and_counts_the_object(run):
    arrays = read_arrays(run / "attention" / "examples.npz")
    objects = np.zeros((2, 8, 8), bool)
    objects[:, :2, :2] = True  # the first of 4 x 4 patches
    write_arrays(run / "attention" / "examples.npz", arrays | {"object": objects})
    shown = prepared(attention_maps.read(run, 8), 1.0, ALL, attention_examples.read(run))
    cross = attention_maps.read(run, 8)["cross"].mean((1, 2, 3))
    np.testing.assert_allclose(shown.maps, cross * 16, rtol=2e-3)
    np.testing.assert_allclose(shown.statistics["on_object"], cross[:, 0], rtol=2e-3)
    np.testing.assert_allclose(shown.statistics["object_share"], 1 / 16)
    assert [(k, round(share, 2)) for k, share in shown.predicted] == [(0, 0.9), (1, 0.8)]


def test_examples_of_one_class_are_told_apart():
    assert attention_report.told_apart(["cat", "dog", "cat", "cat"]) == ["cat", "dog", "cat 2", "cat 3"]


def test_rollout_is_of_the_whole_stack(run):
    arrays = attention_maps.read(run, 8)
    rolled = rollout(arrays["cross"], arrays["latent"], arrays["latent_stage"]).mean(1)
    np.testing.assert_array_equal(Choice(None, None, "mean", True).map(arrays), rolled)


def test_long_names_and_signs_of_formulas_are_drawn(run):
    about = read_json(run / "attention" / "about.json")
    write_json(run / "attention" / "about.json", about | {"class_names": ["a very long name of a class $x_1$" * 3, ""]})
    assert write(run, step=8) == ["comprehensive_epoch_1_analysis.png"]
