# SPDX-License-Identifier: Apache-2.0
"""Run folders with metrics.jsonl as a training leaves it, without one."""

import json

import numpy as np


def write_metrics(run, epochs, *, rename=None, nan_at=()):
    """Ten steps an epoch, logged twice; the rate falls to a tenth half way. Train ends at 0.95, held out at 0.7."""
    lines = []
    for half in range(1, 2 * epochs + 1):
        share, step = half / (2 * epochs), 5 * half
        loss = "NaN" if half in nan_at else float(3 * np.exp(-6 * share))
        rate = 1e-2 if share <= 0.5 else 1e-3
        metrics = {"loss": loss, "accuracy": 0.05 + 0.9 * share, "learning_rate": rate}
        lines.append({"step": step, "time": 100.0 + half} | {f"train/{name}": x for name, x in metrics.items()})
        if half % 2 == 0:
            metrics = {"loss": 3 - 2 * share, "accuracy": 0.1 + 0.6 * share}
            lines.append(
                {"step": step, "time": 100.5 + half} | {f"validation/{name}": x for name, x in metrics.items()}
            )
    for old, new in (rename or {}).items():
        lines = [{key.replace(f"/{old}", f"/{new}"): value for key, value in line.items()} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "run.json").write_text(json.dumps({"steps_per_epoch": 10}))
    (run / "config.json").write_text("{}")
    return run
