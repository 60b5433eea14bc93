# SPDX-License-Identifier: Apache-2.0
"""What the slots of a trained model show: `results`, `attention_evolution` and `decomposition` in figures/slots/.

Of a run without masks (set prediction) `attention_evolution` alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas, slots
from perceiver_jax.files import write_all
from perceiver_jax.reports.results import named

SPLITS = ("test", "validation", "train")
"""The first one that the data has is shown."""
EVOLVING = 2
"""Images whose attention is shown at most."""


def write(run: Any, formats: Sequence[str], flags: Any) -> list[Path]:
    """Writes the figures of --num images of the test split, always the same; the decomposition of the first.

    Where slots or iterations were changed for this, the folder's name says so.

    Args:
        run: an `experiment.Run`.

    Raises:
        ConfigError: its model has no slots, or the data is not there.
    """
    source = run.source()
    split = next(split for split in SPLITS if split in source.splits)
    number = min(flags.num, source.num_examples(split))
    found = run.predictions(split, number, source, num_examples=number)
    if "attention" not in found:
        raise ConfigError(
            f"{run.workdir}: its predictions have no attention of slots: expected a run with slots, e.g. of "
            "configs/slot_attention.py. Look at others with: python -m perceiver_jax.visualize attention"
        )
    images = source.load(split, found["id"], None)["image"]
    files = {
        run.workdir / "figures" / named("slots", run.changes) / f"{name}.{kind}": canvas.rendered(figure, kind)
        for name, figure in _figures(images, found).items()
        for kind in formats
    }
    return write_all(files)


def _figures(images: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, Any]:
    few = images[:EVOLVING]
    evolution = slots.visualize_attention_evolution(found["attention"][:EVOLVING], images=few)
    if "masks" not in found:
        return {"attention_evolution": evolution}
    shown, masks = found["recons"] if "recons" in found else found["recon"], found["masks"]
    return {
        "results": slots.visualize_slots(images, shown, masks),
        "attention_evolution": evolution,
        "decomposition": slots.visualize_slot_decomposition(images[0], shown[0], masks[0]),
    }
