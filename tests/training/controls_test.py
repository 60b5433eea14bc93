# SPDX-License-Identifier: Apache-2.0
"""Plateau, early stopping and the best value, on hand-written histories."""

import json

from perceiver_jax.training.controls import Best, Controls, Patience, Plateau


def make_controls():
    return Controls(
        best=Best(metric="accuracy", mode="max"),
        plateau=Plateau(metric="loss", mode="min", patience=2, factor=0.5, min_scale=0.2),
        early_stopping=Patience(metric="loss", mode="min", patience=4),
    )


def test_best_is_the_last_of_equals_and_never_nan():
    best = Best(metric="accuracy", mode="max")
    seen = [best.update(step, {"accuracy": value}) for step, value in enumerate([0.5, 0.5, float("nan"), 0.7, 0.6])]
    assert seen == [True, True, False, True, False]
    assert (best.value, best.step) == (0.7, 3)


def test_best_of_a_loss_is_the_smallest_and_scores_rise():
    best = Best(metric="loss", mode="min")
    assert [best.update(step, {"loss": value}) for step, value in enumerate([2.0, 1.0, 3.0])] == [
        True,
        True,
        False,
    ]
    assert best.score({"loss": 1.0}) > best.score({"loss": 2.0})


def test_plateau_fires_after_patience_and_counts_anew():
    plateau = Plateau(metric="loss", mode="min", patience=2)
    assert [plateau.update({"loss": value}) for value in [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6]] == [
        False, False, True, False, True, False, False,
    ]  # fmt: skip


def test_patience_zero_never_fires():
    patience = Patience(metric="loss", mode="min", patience=0)
    assert not any(patience.update({"loss": 1.0}) for _ in range(50))


def test_small_improvements_count_as_none():
    patience = Patience(metric="accuracy", mode="max", patience=2, min_delta=0.1)
    assert [patience.update({"accuracy": value}) for value in [0.5, 0.55, 0.59, 0.9]] == [
        False,
        False,
        True,
        False,
    ]


def test_nan_is_no_improvement_and_no_yardstick():
    patience = Patience(metric="loss", mode="min", patience=2)
    assert [patience.update({"loss": value}) for value in [float("nan"), 3.0, 2.0, 1.0]] == [False] * 4


def test_scale_stops_at_the_least():
    plateau = make_controls().plateau
    assert [plateau.scale(1.0), plateau.scale(0.5), plateau.scale(0.3)] == [0.5, 0.25, 0.2]


def test_state_restored_in_the_middle_decides_alike():
    losses = [1.0, 0.9, 0.95, 0.96, 0.97, 0.98, 0.5]
    whole, first, second = make_controls(), make_controls(), make_controls()

    def decide(controls, step, loss):
        metrics = {"loss": loss, "accuracy": 1 - loss}
        return (
            controls.best.update(step, metrics),
            controls.plateau.update(metrics),
            controls.early_stopping.update(metrics),
        )

    expected = [decide(whole, step, loss) for step, loss in enumerate(losses)]
    got = [decide(first, step, loss) for step, loss in enumerate(losses[:4])]
    second.restore(json.loads(json.dumps(first.state())))
    got += [decide(second, step + 4, loss) for step, loss in enumerate(losses[4:])]
    assert got == expected
    assert any(fired for _, fired, _ in expected) and any(stop for *_, stop in expected)
