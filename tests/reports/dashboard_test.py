# SPDX-License-Identifier: Apache-2.0
"""The dashboard's content worked out by hand, its files, and what ends in one line."""

import io
import re
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures.panels import Panel, Table
from perceiver_jax.reports import attention_maps, dashboard
from perceiver_jax.reports.attention_curves import attention_panels
from perceiver_jax.reports.curves import read_curves
from tests.reports.attention_files import write_run
from tests.reports.metric_files import write_metrics

HELD_OUT = [0.1 + 0.6 * epoch / 12 for epoch in range(1, 13)]


def flags(**changed):
    return SimpleNamespace(**{"experiment_name": "", "epochs": [], "enhanced_attention": False} | changed)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_metrics(tmp_path_factory.mktemp("run"), epochs=12)


def test_the_panels_hold_what_the_metrics_say(run):
    shown = dashboard.contents(read_curves(run), "Main_Experiment", [3, 12])
    (scores, losses, now), (gap, rolling, five), (summary,), (at_epochs,) = shown.rows
    assert shown.title == "Main_Experiment"
    assert [line.label for line in scores.lines] == ["train", "validation", "train, trend", "validation, trend"]
    np.testing.assert_allclose(scores.lines[3].y, HELD_OUT)  # the trend of a straight line
    assert scores.percent and [note.text for note in scores.notes] == ["best and last: 70.00 %"]
    assert losses.log and losses.rules == [(3.0, "epoch 3"), (12.0, "epoch 12"), (6.5, "rate 0.001")]
    assert dict(now.rows)["train accuracy"] == "95.00 %" and dict(now.rows)["step"] == "120"
    assert gap.title == "Gap in accuracy: overfitting" and gap.lines[0].y[-1] == pytest.approx(0.25)
    np.testing.assert_allclose(rolling.lines[1].y[-1], np.mean(HELD_OUT[-5:]))
    assert list(five.values.values()) == pytest.approx(
        [1 - statistics.pstdev(HELD_OUT[-10:]), 1 - 2 / 12, 0.75, 0.55, 0.25]
    )
    assert summary.rows[1][:5] == ["validation", "70.00 %", "epoch 12", "15.00 %", "70.00 %"]
    assert list(at_epochs.rows[0][:3]) == ["3", "27.50 %", "25.00 %"]


def test_a_run_without_scores_is_shown_by_its_losses(tmp_path):
    shown = dashboard.contents(read_curves(write_metrics(tmp_path, epochs=4, rename={"accuracy": "mse"})), "x")
    (left, _, _), (gap, _, five), (summary,) = shown.rows
    assert left.title == "Mse" and not left.percent
    assert gap.title.startswith("Gap in loss: ") and not gap.percent
    assert [np.isnan(value) for value in five.values.values()] == [True, False, True, True, True]
    assert len(summary.head) == 6


def test_a_score_of_the_held_out_split_alone_leaves_the_gap_to_the_losses(tmp_path):
    run = write_metrics(tmp_path, epochs=4, rename={"accuracy": "ari"})
    lines = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(lines.replace("train/ari", "train/other"))
    shown = dashboard.contents(read_curves(run), "x")
    assert [line.label for line in shown.rows[0][0].lines] == ["validation", "validation, trend"]
    assert shown.rows[1][0].title.startswith("Gap in loss: ")
    assert np.isnan(shown.rows[1][2].values["Generalization\n1 - |train - held out|"])


def test_what_is_not_finite_is_left_out_and_counted(tmp_path):
    shown = dashboard.contents(read_curves(write_metrics(tmp_path, epochs=4, nan_at=(3, 8))), "x")
    now, summary = shown.rows[0][2], shown.rows[2][0]
    assert ("not finite in train/loss", "2 values") in now.rows
    assert dict(now.rows)["train loss"] == "nan" and summary.rows[0][-2] != "nan"


def test_files_are_whole_and_ask_for_nothing(run):
    files = dashboard.write(run, ("png", "pdf"), flags(experiment_name="<b>개 $x_1$"))
    assert [file.name for file in files] == ["dashboard.png", "dashboard.pdf", "dashboard.html"]
    image = np.asarray(Image.open(io.BytesIO(files[0].read_bytes())).convert("L"))
    assert image.shape[1] > 1500 and image.std() > 10
    assert files[1].read_bytes().startswith(b"%PDF")
    page = files[2].read_text()
    assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=", page)
    assert "default-src 'none'" in page and "&lt;b&gt;" in page and "<title><b>" not in page
    assert sorted(run.joinpath("figures").iterdir()) == sorted(files)


def test_attention_adds_a_row(run):
    write_run(run, "image", steps=(10, 30, 120), steps_per_epoch=10)
    entropy, peak = attention_panels(run, [3, 12])
    assert entropy.percent and [line.label for line in entropy.lines] == ["stage 1", "stage 2"]
    cross = attention_maps.read(run, 120)["cross"][:, 1]
    np.testing.assert_allclose(peak.lines[1].y[-1], 16 * cross.max(-1).mean(), rtol=1e-5)
    assert entropy.lines[0].x.tolist() == [3, 12] and entropy.lines[0].y[1] < entropy.lines[0].y[0] < 1
    with pytest.raises(ConfigError, match=r"attention maps are of the epochs 1, 3, 12\."):
        dashboard.write(run, ("svg",), flags(enhanced_attention=True, epochs=["5"]))


def test_wrong_epochs_are_named_with_those_there_are(tmp_path):
    write_metrics(tmp_path, epochs=3)
    for words in (["1", "9"], ["x"]):
        with pytest.raises(ConfigError, match=f"nothing is recorded of {words[-1]}; there are 1, 2, 3"):
            dashboard.write(tmp_path, ("png",), flags(epochs=words))
    with pytest.raises(ConfigError, match="has no attention maps"):
        dashboard.write(tmp_path, ("png",), flags(enhanced_attention=True))
    assert not (tmp_path / "figures").exists()


def test_every_part_is_drawn_on_paper_and_on_the_page(run):
    from perceiver_jax.figures.dashboard import DRAW
    from perceiver_jax.figures.dashboard_page import ADD

    assert set(DRAW) == set(ADD) >= {Panel, Table}
