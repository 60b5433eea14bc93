# SPDX-License-Identifier: Apache-2.0
"""The second of two stages: what its config takes over from the run it begins with, and the codes of that run's data.

A config whose data are `codes` names in `init_from` a run that makes codes of images. Its autoencoder becomes part of
the task, and every example of its data is encoded, once, into RUN/codes/ of that run.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perceiver_jax import experiment
from perceiver_jax.data import codes
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import write_arrays
from perceiver_jax.tasks.code_prior import Encoding
from perceiver_jax.tasks.svq import SemanticQuantization
from perceiver_jax.training import disk
from perceiver_jax.weights.transfer import leaves

FOLDER = "codes"
MOST_CODES = 2**16
"""Of a codebook, as the file stores them."""

Section = Mapping[str, Any]


def resolve(config: Section, say: Callable[[str], None] = print) -> dict[str, Any]:
    """The config with all that the run it begins with decides; any other config as it is.

    Raises:
        ConfigError: no run to begin with, or one that does not make codes; codes of another shape than the config's.
        Retry: the disk is full.
    """
    if config["data"].get("name") != "codes":
        return dict(config)
    if not config["init_from"]:
        raise ConfigError(
            "config.init_from is empty: expected the folder of a run of configs/svq.py, whose codes to model."
        )
    run = experiment.load(config["init_from"], config["init"]["checkpoint"])
    check_first_stage(run)
    size = run.config["model"]["codebook_size"]
    if config["model"]["codebook_size"] not in (0, size):
        raise ConfigError(
            f"config.model.codebook_size={config['model']['codebook_size']}: {run.workdir} has {size} codes a block. "
            "Leave it out: the run decides."
        )
    folder, key = run.workdir / FOLDER, fingerprint(run)
    if codes.read(folder / f"{key}.npz") is None:
        encode(run, folder / f"{key}.npz", say)
    data = {**config["data"], "path": str(folder), "key": key}
    model = {**config["model"], "codebook_size": size}
    image_size = run.spec.arrays["image"].shape[0]
    task = {**config["task"], "autoencoder": run.config["model"], "image_size": image_size}
    return {**config, "data": data, "model": model, "task": task}


def check_first_stage(run: experiment.Run) -> None:
    """ConfigError unless the run makes discrete codes of images."""
    if not isinstance(run.task, SemanticQuantization) or run.config["model"]["quantize"] != "vq":
        kind = run.config["task"]["name"] if not isinstance(run.task, SemanticQuantization) else "quantize='soft'"
        raise ConfigError(f"{run.workdir} makes no codes of images ({kind}): expected a run of configs/svq.py.")
    if run.config["model"]["codebook_size"] > MOST_CODES:
        raise ConfigError(f"{run.workdir}: codebooks of more than {MOST_CODES} codes cannot be stored.")


def fingerprint(run: experiment.Run) -> str:
    """A short hash of what decides the codes: the run's weights and data, wherever they lie."""
    digest = hashlib.sha256()
    data = {name: value for name, value in run.config["data"].items() if name != "path"}
    digest.update(json.dumps([data, run.config["model"], run.config["seed"]], sort_keys=True).encode())
    for path, leaf in sorted(leaves(run.variables).items()):
        array = np.asarray(jax.device_get(leaf))
        digest.update(f"{path} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:20]


def encode(run: experiment.Run, file: Path, say: Callable[[str], None]) -> None:
    """Writes the codes of every split."""
    source = run.source()
    total = sum(source.num_examples(split) for split in source.splits)
    say(f"encoding {total:,} images into {file}, once")
    encoder = dataclasses.replace(run, task=Encoding(model=run.task.model))
    splits = [split for split in codes.SPLITS if split in source.splits]
    arrays = codes.packed({split: encoder.predictions(split, source=source)["codes"] for split in splits})
    try:
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, arrays)
    except OSError as error:
        raise disk.explain(error, file.parent, "writing the codes") or error from error
