# SPDX-License-Identifier: Apache-2.0
"""How the attention of a run evolved, as panels of the dashboard: its entropy and its peak at each cross-attend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures.canvas import COLOURS
from perceiver_jax.figures.panels import Line, Panel
from perceiver_jax.metrics.progress import CONFIDENCE
from perceiver_jax.reports import attention_maps
from perceiver_jax.reports.demo_data import pack, real_inputs

DASHES = ("solid", "dashed", "dotted")


def attention_panels(run: Path, epochs: Sequence[int] = ()) -> list[Panel]:
    """Entropy and peak over epochs, a curve with its 95 % band over the examples for each stage.

    Args:
        epochs: those to show; all that have maps where it is empty.

    Raises:
        ConfigError: the run has no maps, or none of these epochs.
    """
    known = {int(step): epoch for step, epoch in attention_maps.read_about(run)["steps"].items()}
    steps = [step for step in sorted(known) if not epochs or known[step] in epochs]
    if not steps:
        there = ", ".join(f"{known[step]:g}" for step in sorted(known))
        raise ConfigError(f"--epochs={','.join(map(str, epochs))}: attention maps are of the epochs {there}.")
    x = np.asarray([known[step] for step in steps])
    maps, examples = [attention_maps.read(run, step)["cross"] for step in steps], attention_maps.read_examples(run)
    every, mask = np.arange(maps[0].shape[3]), real_inputs(examples, maps[0].shape)
    numbers = np.stack([pack(cross, every, mask)[1][:, :, 1:, 1:].mean((2, 3)) for cross in maps])
    return [
        _panel("Attention: entropy, share of the greatest", x, numbers[..., 1], percent=True),
        _panel("Attention: peak (1 = evenly spread)", x, numbers[..., 2], percent=False),
    ]


def _panel(title: str, x: np.ndarray, values: np.ndarray, *, percent: bool) -> Panel:
    """A curve for each stage of (steps, examples, stages)."""
    mean, error = values.mean(1), CONFIDENCE * values.std(1) / np.sqrt(values.shape[1])
    lines = [
        Line(
            label=f"stage {k + 1}",
            x=x,
            y=mean[:, k],
            color=COLOURS[k % len(COLOURS)],
            dashes=DASHES[k % len(DASHES)],
            marks=True,
            band=(mean[:, k] - error[:, k], mean[:, k] + error[:, k]),
        )
        for k in range(mean.shape[1])
    ]
    return Panel(title=title, x_label="epoch", lines=lines, percent=percent)
