# SPDX-License-Identifier: Apache-2.0
"""What an evaluation of a run of SVQ adds: what its codes tell of objects, and whether the images it makes are scenes.

Of stage one: linear probes from an object's codes, and its reconstructions. Of the prior: its samples, beside images of
codes that are drawn each by itself, and beside reconstructions, the best it could do.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.generation import Generator
from perceiver_jax.models.slot_autoencoder import as_pixels
from perceiver_jax.reports import svq_evaluation
from perceiver_jax.tasks.code_prior import FROZEN, CodeModeling
from perceiver_jax.tasks.svq import SemanticQuantization

NUM = 512
"""Images that are made and judged, of each kind."""
BATCH = 32
TRUE = "train"
"""The split whose images the others are compared with."""


def scores(run: experiment.Run, split: str, source: Any) -> dict[str, Any]:
    """More numbers for the results of a run of SVQ; none for any other.

    Args:
        source: of the run.
    """
    if isinstance(run.task, SemanticQuantization):
        return _of_autoencoder(run, split, source)
    if isinstance(run.task, CodeModeling):
        return _of_prior(run, split, source)
    return {}


def _of_autoencoder(run: experiment.Run, split: str, source: Any) -> dict[str, Any]:
    rows = run.predictions(split, source=source)
    batch = source.load(split, rows["id"], None)
    told = svq_evaluation.told_by_codes(rows["indices"], rows["masks"], batch)
    sets = {"image": batch["image"][:NUM], "reconstruction": np.asarray(as_pixels(rows["recon"][:NUM]))}
    return told | _judged(source, sets)


def _of_prior(run: experiment.Run, split: str, source: Any) -> dict[str, Any]:
    try:
        first = experiment.load(run.config["init_from"], run.config["init"]["checkpoint"]).source()
    except ConfigError as error:
        print(f"samples are not judged, since the run that the prior began with is missing: {error}")
        return {}
    codes = {part: _first(source, part)["codes"] for part in (TRUE, split)}
    sets = {
        "sample": Generator(run).generate(NUM).images,
        "unigram": _decoded(run, svq_evaluation.from_unigrams(codes[TRUE], NUM)),
        "reconstruction": _decoded(run, codes[split]),
    }
    return _judged(first, sets)


def _judged(source: Any, sets: Mapping[str, UInt8[np.ndarray, "images height width 3"]]) -> dict[str, Any]:
    found = svq_evaluation.judged(svq_evaluation.parser_of(source), sets, _first(source, TRUE)["image"])
    return svq_evaluation.headlines(found) | {"judged": found}


def _first(source: Any, split: str) -> dict[str, np.ndarray]:
    return source.load(split, np.arange(min(NUM, source.num_examples(split))), None)


def _decoded(run: experiment.Run, codes: Int[np.ndarray, "images num_slots num_blocks"]) -> UInt8[np.ndarray, "..."]:
    """Images of codes, by the prior's own copy of the autoencoder."""

    @jax.jit
    def decode(variables, codes, key):
        slots = run.task.autoencoder.apply(variables, codes, method="lookup")
        return as_pixels(run.task.autoencoder.apply(variables, slots, key, method="decode"))

    padded = np.concatenate([codes, np.repeat(codes[:1], -len(codes) % BATCH, axis=0)])
    keys = jax.random.split(jax.random.key(0), len(padded) // BATCH)
    parts = [decode(run.variables[FROZEN], padded[k * BATCH : (k + 1) * BATCH], key) for k, key in enumerate(keys)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(codes)]
