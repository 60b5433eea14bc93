# SPDX-License-Identifier: Apache-2.0
"""A run's curves out of its metrics.jsonl."""

import json

import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.reports.curves import Curve, read_curves
from tests.reports.metric_files import write_metrics


def test_metrics_over_epochs_by_split(tmp_path):
    curves = read_curves(write_metrics(tmp_path, epochs=4))
    assert (curves.unit, curves.held_out, curves.score(), curves.last_step) == ("epoch", "validation", "accuracy", 40)
    np.testing.assert_allclose(curves.train("loss").x, np.arange(1, 9) / 2)
    np.testing.assert_allclose(curves.other("accuracy").x, [1, 2, 3, 4])
    assert curves.epochs() == [1, 2, 3, 4] and len(curves.other("nothing").x) == 0


def test_without_the_record_of_the_run_steps_are_counted(tmp_path):
    write_metrics(tmp_path, epochs=2)
    (tmp_path / "run.json").unlink()
    curves = read_curves(tmp_path)
    assert curves.unit == "step" and curves.other("loss").x.tolist() == [10, 20]


def test_other_tasks_have_other_metrics(tmp_path):
    curves = read_curves(write_metrics(tmp_path, epochs=3, rename={"accuracy": "mse"}))
    assert curves.score() == "" and curves.of_task() == "mse"


def test_a_curve_between_its_values_and_at_the_end_of_epochs():
    curve = Curve(np.asarray([0.5, 1.0, 1.5, 2.5]), np.asarray([1.0, 2.0, np.nan, 4.0]))
    np.testing.assert_allclose(curve.at(np.asarray([0.75, 1.75])), [1.5, 3.0])
    np.testing.assert_allclose(curve.per_epoch().x, [1.0, 1.5, 2.5])
    assert np.isnan(Curve(np.asarray([1.0]), np.asarray([np.nan])).at(np.asarray([1.0]))).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no metrics"),
        ([{"step": 1, "train/loss": 1.0}, {"step": 1, "validation/loss": 1.0}], "needs two values"),
        ([{"step": 1, "train/loss": "NaN"}, {"step": 2, "train/loss": "NaN"}], "is finite"),
        ([{"step": 1, "train/step_time": 1.0}, {"step": 2, "train/step_time": 1.0}], "needs two values"),
    ],
)
def test_too_little_for_a_curve_is_one_line(tmp_path, lines, message):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConfigError, match=message):
        read_curves(tmp_path)
