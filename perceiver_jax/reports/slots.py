# SPDX-License-Identifier: Apache-2.0
"""What the slots of a trained model show: `results`, `attention_evolution` and `decomposition` in figures/slots/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas, slots
from perceiver_jax.files import write_all

SPLITS = ("test", "validation", "train")
"""The first one that the data has is shown."""
EVOLVING = 2
"""Images whose attention is shown at most."""


def write(run: Any, formats: Sequence[str], flags: Any) -> list[Path]:
    """Writes the three figures of --num images of the test split, always the same; the decomposition of the first.

    Args:
        run: an `experiment.Run`.

    Raises:
        ConfigError: its model has no slots, or the data is not there.
    """
    source = run.source()
    split = next(split for split in SPLITS if split in source.splits)
    number = min(flags.num, source.num_examples(split))
    found = run.predictions(split, number, source, num_examples=number)
    if missing := {"masks", "attention"} - found.keys():
        raise ConfigError(
            f"{run.workdir}: its predictions have no {' and no '.join(sorted(missing))}: expected a run with slots, "
            "e.g. of configs/slot_attention.py. Look at others with: python -m perceiver_jax.visualize attention"
        )
    images = source.load(split, found["id"], None)["image"]
    files = {
        run.workdir / "figures" / "slots" / f"{name}.{kind}": canvas.rendered(figure, kind)
        for name, figure in _figures(images, found).items()
        for kind in formats
    }
    return write_all(files)


def _figures(images: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, Any]:
    shown, masks = found["recons"] if "recons" in found else found["recon"], found["masks"]
    few = images[:EVOLVING]
    return {
        "results": slots.visualize_slots(images, shown, masks),
        "attention_evolution": slots.visualize_attention_evolution(found["attention"][:EVOLVING], images=few),
        "decomposition": slots.visualize_slot_decomposition(images[0], shown[0], masks[0]),
    }
