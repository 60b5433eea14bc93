# SPDX-License-Identifier: Apache-2.0
"""Decisions taken after an evaluation: lower the rate on a plateau, stop early, remember the best.

All are host-side and their state is plain JSON, saved beside the checkpoint, so a resumed run decides alike.
"""

import dataclasses
import math


@dataclasses.dataclass(kw_only=True)
class Best:
    """The best value of a metric so far.

    Attributes:
        metric: name of an evaluation metric, e.g. `accuracy`.
        mode: `max` or `min`.
    """

    metric: str
    mode: str
    value: float | None = None
    step: int | None = None

    def score(self, metrics: dict[str, float]) -> float:
        """The metric as a number of which more is better."""
        value = metrics[self.metric]
        return value if self.mode == "max" else -value

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Takes in an evaluation and says whether it is the best yet; of equals the later one is, having seen more."""
        value = metrics[self.metric]
        improved = not math.isnan(value) and (
            self.value is None or (value >= self.value if self.mode == "max" else value <= self.value)
        )
        if improved:
            self.value, self.step = value, step
        return improved


@dataclasses.dataclass(kw_only=True)
class Patience:
    """Counts evaluations without improvement.

    Attributes:
        patience: this many in a row without improvement and it fires; 0 never fires.
        min_delta: a smaller improvement counts as none.
    """

    metric: str
    mode: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def update(self, metrics: dict[str, float]) -> bool:
        """Takes in an evaluation and says whether patience has run out; firing starts the count anew."""
        value = metrics[self.metric] if self.mode == "min" else -metrics[self.metric]
        if not math.isnan(value) and (self.best is None or value < self.best - self.min_delta):
            self.best, self.waited = value, 0
            return False
        self.waited += 1
        if 0 < self.patience <= self.waited:
            self.waited = 0
            return True
        return False


@dataclasses.dataclass(kw_only=True)
class Plateau(Patience):
    """Multiplies the rate by `factor` when patience runs out, down to `min_scale` of the schedule (Keras' rule)."""

    factor: float = 0.2
    min_scale: float = 0.0

    def scale(self, lr_scale: float) -> float:
        """The next scale of the learning rate."""
        return max(lr_scale * self.factor, self.min_scale)


@dataclasses.dataclass(kw_only=True)
class Controls:
    """All decisions of a run, with their state."""

    best: Best
    plateau: Plateau
    early_stopping: Patience

    def state(self) -> dict:
        """JSON-able state of all."""
        return {
            "best": {"value": self.best.value, "step": self.best.step},
            "plateau": {"best": self.plateau.best, "waited": self.plateau.waited},
            "early_stopping": {"best": self.early_stopping.best, "waited": self.early_stopping.waited},
        }

    def restore(self, state: dict) -> None:
        """Takes up the state of `state()`."""
        for name, values in state.items():
            for field, value in values.items():
                setattr(getattr(self, name), field, value)
