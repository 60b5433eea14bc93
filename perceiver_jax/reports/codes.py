# SPDX-License-Identifier: Apache-2.0
"""`visualize svq`: what the autoencoder of stage one makes of images, in RUN/figures/.

`visualization`: images, reconstructions from codes alone, masks; `codebooks` (and `codebooks.csv`): how often each code
of each codebook is used over the validation split; `swaps.png`: a second image's codes put into a first one, one at a
time, all of it from codes alone: of mixtures of prototypes, from the prototype that has the largest share. It needs the
data.
"""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas, codes, slots
from perceiver_jax.files import write_all
from perceiver_jax.metrics.codes import use_of_codebooks
from perceiver_jax.models.slot_autoencoder import as_pixels
from perceiver_jax.tasks.code_prior import Encoding
from perceiver_jax.tasks.svq import SemanticQuantization, images_of

NUM_IMAGES = 5


def write(run: Any, formats: Sequence[str], flags: Any) -> list[Path]:
    """Draws and writes; returns the files.

    Args:
        run: an `experiment.Run`.

    Raises:
        ConfigError: not a run of SVQ, its data are not there, or the files cannot be written.
    """
    if not isinstance(run.task, SemanticQuantization):
        raise ConfigError(f"{run.workdir} makes no codes of images: expected a run of configs/svq.py.")
    source = run.source()
    split = "validation" if "validation" in source.splits else "train"
    number = min(NUM_IMAGES, source.num_examples(split))
    found = run.predictions(split, number, source, num_examples=number)
    images, recons = source.load(split, found["id"], None)["image"], np.asarray(as_pixels(found["recon"]))
    counts = _counts(run, source, split)
    figures = {
        "visualization": slots.visualize_slots(images, recons, found["masks"]),
        "codebooks": codes.use_of_codes(counts, _captions(counts)),
    }
    folder = run.workdir / "figures"
    files = {
        folder / f"{name}.{kind}": canvas.rendered(made, kind) for name, made in figures.items() for kind in formats
    }
    sheet = codes.swaps(*_swapped(run, found["indices"][0], found["indices"][-1]))
    files[folder / "swaps.png"] = canvas.rendered(canvas.picture(sheet), "png")
    return write_all(files | {folder / "codebooks.csv": _table(counts).encode()})


def _counts(run: Any, source: Any, split: str) -> np.ndarray:
    """(num_blocks, codebook_size): how often the examples of the split have each code."""
    codes = dataclasses.replace(run, task=Encoding(model=run.task.model)).predictions(split, source=source)["codes"]
    size = run.task.model.codebook_size
    used = [np.bincount(codes[..., block].ravel(), minlength=size) for block in range(codes.shape[2])]
    return np.stack(used).astype(np.float64)


def _swapped(run: Any, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of both and, (num_slots, num_blocks, height, width, 3), of the first with one code of the second."""
    num_slots, num_blocks = first.shape
    codes = np.tile(first, (num_slots, num_blocks, 1, 1))
    for slot, block in np.ndindex(num_slots, num_blocks):
        codes[slot, block, slot, block] = second[slot, block]
    all_of_them = np.concatenate([first[None], second[None], codes.reshape(-1, num_slots, num_blocks)])
    decode = jax.jit(lambda variables, codes: images_of(run.task.model, variables, codes, jax.random.key(0)))
    images = np.asarray(decode(run.variables, all_of_them))
    return images[0], images[1], images[2:].reshape(num_slots, num_blocks, *images.shape[1:])


def _captions(counts: np.ndarray) -> list[str]:
    use = use_of_codebooks(counts)
    return [
        f"codebook {m + 1}: perplexity {perplexity:.1f}, {dead:.0%} of {counts.shape[1]} dead"
        for m, (perplexity, dead) in enumerate(zip(use["perplexity"], use["dead"], strict=True))
    ]


def _table(counts: np.ndarray) -> str:
    """A row for each code: how often it was used."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["codebook", "code", "count"])
    writer.writerows([m + 1, code, int(count)] for (m, code), count in np.ndenumerate(counts))
    return stream.getvalue()
