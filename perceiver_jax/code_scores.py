# SPDX-License-Identifier: Apache-2.0
"""What an evaluation of a run of SVQ adds: what its codes tell of objects, and whether the images it makes are scenes.

Of stage one: linear probes from an object's codes, its reconstructions, and images of codes that are drawn each by
itself, which are all it can make without a prior. Of the prior: its samples, beside the same two.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax import experiment
from perceiver_jax.coding import Coder
from perceiver_jax.errors import ConfigError
from perceiver_jax.generation import Generator
from perceiver_jax.metrics.frechet import Images
from perceiver_jax.models.slot_autoencoder import as_pixels
from perceiver_jax.reports import svq_evaluation
from perceiver_jax.tasks.code_prior import CodeModeling
from perceiver_jax.tasks.svq import SemanticQuantization

NUM = 512
"""Images that are made and judged, of each kind."""
PROBED = 1024
"""Images whose codes are probed: what is predicted of one, masks and reconstruction among it, is held in memory."""
BATCH = 64
"""Samples that are drawn at a time."""
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
    rows = run.predictions(split, source=source, num_examples=PROBED)
    batch = source.load(split, rows["id"], None)
    told = svq_evaluation.told_by_codes(rows["indices"], rows["masks"], batch)
    sets = {"image": batch["image"][:NUM], "reconstruction": np.asarray(as_pixels(rows["recon"][:NUM]))}
    if run.config["model"]["quantize"] == "vq":  # a mixture of prototypes is not made of codes
        sets["unigram"] = Coder(run).decode(svq_evaluation.from_unigrams(rows["indices"], len(sets["image"])))
    return told | _judged(source, sets)


def _of_prior(run: experiment.Run, split: str, source: Any) -> dict[str, Any]:
    try:
        first = experiment.load(run.config["init_from"], run.config["init"]["checkpoint"]).source()
    except ConfigError as error:
        print(f"samples are not judged, since the run that the prior began with is missing: {error}")
        return {}
    codes = {part: _first(source, part)["codes"] for part in (TRUE, split)}
    decode = Coder(run).decode
    sets = {
        "sample": Generator(run).generate(NUM, batch_size=BATCH).images,
        "unigram": decode(svq_evaluation.from_unigrams(codes[TRUE], NUM)),
        "reconstruction": decode(codes[split]),
    }
    return _judged(first, sets)


def _judged(source: Any, sets: Mapping[str, Images]) -> dict[str, Any]:
    found = svq_evaluation.judged(svq_evaluation.parser_of(source), sets, _first(source, TRUE)["image"])
    return svq_evaluation.headlines(found) | {"judged": found}


def _first(source: Any, split: str) -> dict[str, np.ndarray]:
    return source.load(split, np.arange(min(NUM, source.num_examples(split))), None)
