# SPDX-License-Identifier: Apache-2.0
"""Generated images as files: a sheet, and a table of the codes they are made of."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.images import contact_sheet
from perceiver_jax.files import write_all

COLUMNS = 8  # of the sheet


def write(folder: Path, images: np.ndarray, codes: np.ndarray, how: Mapping[str, Any]) -> list[Path]:
    """Writes `generated.png`, `codes.csv` and `codes.json`; returns the files.

    Args:
        images: (images, height, width, 3), uint8.
        codes: (images, slots, blocks).
        how: they were made, JSON-able; `seed` also stands in each row of the table.

    Raises:
        ConfigError: they cannot be written.
    """
    sheet = contact_sheet(images, [str(k) for k in range(len(images))], columns=min(COLUMNS, len(images)))
    rows = [{"image": k, "seed": how["seed"], "codes": image.tolist()} for k, image in enumerate(codes)]
    files = {
        "generated.png": canvas.rendered(canvas.picture(sheet), "png"),
        "codes.csv": _table(codes, how["seed"]).encode(),
        "codes.json": json.dumps({**how, "images": rows}, indent=1).encode(),
    }
    return write_all({folder / name: content for name, content in files.items()})


def _table(codes: np.ndarray, seed: int) -> str:
    """A row for each slot of each image."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "seed", "slot", *(f"block_{block}" for block in range(codes.shape[2]))])
    for (image, slot), row in zip(np.ndindex(codes.shape[:2]), codes.reshape(-1, codes.shape[2]), strict=True):
        writer.writerow([image, seed, slot, *row])
    return stream.getvalue()
