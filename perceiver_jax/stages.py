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
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, write_arrays
from perceiver_jax.tasks.code_prior import Encoding
from perceiver_jax.tasks.svq import SemanticQuantization
from perceiver_jax.training import disk, exchange
from perceiver_jax.weights.transfer import leaves

FOLDER = "codes"
MOST_CODES = 2**16
"""Of a codebook, as the file stores them."""
SAMPLED = 8
"""Examples of a split of which the images tell whether the data are the same."""
TAKEN = {"model": ("codebook_size",), "task": ("autoencoder", "image_size")}
"""What a config takes over beside the codes."""

Section = Mapping[str, Any]


def resolve(config: Section, say: Callable[[str], None] = print, begun: Path | None = None) -> dict[str, Any]:
    """The config with all that the run it begins with decides, and with the whole path of that run.

    Args:
        begun: the run folder of this config, where it has a checkpoint: it goes on with the codes that it began with,
            for which only their file is needed.

    Raises:
        ConfigError: no run to begin with, or one that does not make codes; codes of another shape than the config's.
        Retry: the disk is full.
    """
    if config["init_from"]:
        config = {**config, "init_from": str(Path(config["init_from"]).absolute())}
    if config["data"].get("name") != "codes":
        return dict(config)
    if not config["init_from"]:
        raise ConfigError(
            "config.init_from is empty: expected the folder of a run of configs/svq.py, whose codes to model."
        )
    taken = exchange.on_first("codes of the run", lambda: _as_before(config, begun)) or _taken(config, say, begun)
    size = taken["model"]["codebook_size"]
    if config["model"]["codebook_size"] not in (0, size):
        raise ConfigError(
            f"config.model.codebook_size={config['model']['codebook_size']}: {config['init_from']} has {size} codes a "
            "block. Leave it out: the run decides."
        )
    return {**config, **{section: {**config[section], **values} for section, values in taken.items()}}


def _as_before(config: Section, begun: Path | None) -> dict[str, Section] | None:
    """What the run in `begun` took over, if its codes lie in the run that the config names; else None."""
    if begun is None:
        return None
    folder = Path(config["init_from"]) / FOLDER
    try:
        before = read_json(begun / "config.json")
        key = before["data"]["key"]
        taken = {section: {name: before[section][name] for name in names} for section, names in TAKEN.items()}
    except (FileNotFoundError, KeyError, TypeError):
        return None  # a run of something else: it is refused later
    taken["data"] = {"path": str(folder), "key": key}
    return taken if codes.read(folder / f"{key}.npz") is not None else None


def _taken(config: Section, say: Callable[[str], None], begun: Path | None) -> dict[str, Section]:
    """What a config takes over from the run that it names; its images are encoded if they have not been."""
    try:
        run = experiment.load(config["init_from"], config["init"]["checkpoint"])
        check_first_stage(run)
        source = run.source()
    except ConfigError as error:
        if begun is None:
            raise
        raise ConfigError(
            f"{begun} needs the codes that it was trained on, and they are not in {config['init_from']}: {error} "
            f"Name the run of configs/svq.py whose folder {FOLDER} has them with --config.init_from=RUN."
        ) from None
    key = exchange.on_first("key of the codes", lambda: fingerprint(run, source))
    file = run.workdir / FOLDER / f"{key}.npz"
    if not exchange.on_first("codes", lambda: codes.read(file) is not None):
        encode(run, source, file, say)
    return {
        "data": {"path": str(file.parent), "key": key},
        "model": {"codebook_size": run.config["model"]["codebook_size"]},
        "task": {"autoencoder": run.config["model"], "image_size": run.spec.arrays["image"].shape[0]},
    }


def check_first_stage(run: experiment.Run) -> None:
    """ConfigError unless the run makes discrete codes of images."""
    if not isinstance(run.task, SemanticQuantization) or run.config["model"]["quantize"] != "vq":
        kind = run.config["task"]["name"] if not isinstance(run.task, SemanticQuantization) else "quantize='soft'"
        raise ConfigError(f"{run.workdir} makes no codes of images ({kind}): expected a run of configs/svq.py.")
    if run.config["model"]["codebook_size"] > MOST_CODES:
        raise ConfigError(f"{run.workdir}: codebooks of more than {MOST_CODES} codes cannot be stored.")


def fingerprint(run: experiment.Run, source: Source) -> str:
    """A short hash of what decides the codes: the run's weights and data, wherever they lie.

    Of the data: settings, how many examples each split has, and the images of `SAMPLED` of them.
    """
    digest = hashlib.sha256()
    data = {name: value for name, value in run.config["data"].items() if name != "path"}
    counts = {split: source.num_examples(split) for split in source.splits}
    digest.update(json.dumps([data, run.config["model"], run.config["seed"], counts], sort_keys=True).encode())
    images = {split: _sampled(source, split, count) for split, count in counts.items()}
    for path, leaf in [*sorted(images.items()), *sorted(leaves(run.variables).items())]:
        array = np.asarray(jax.device_get(leaf))
        digest.update(f"{path} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:20]


def _sampled(source: Source, split: str, count: int) -> np.ndarray:
    """Images of the first example, the last and some between."""
    ids = np.unique(np.linspace(0, count - 1, SAMPLED).round().astype(np.int64))
    return source.load(split, ids, None)["image"]


def encode(run: experiment.Run, source: Source, file: Path, say: Callable[[str], None]) -> None:
    """Writes the codes of every split: all processes encode, process 0 writes."""
    total = sum(source.num_examples(split) for split in source.splits)
    say(f"encoding {total:,} images into {file}, once")
    encoder = dataclasses.replace(run, task=Encoding(model=run.task.model))
    splits = [split for split in codes.SPLITS if split in source.splits]
    arrays = codes.packed({split: encoder.predictions(split, source=source)["codes"] for split in splits})
    exchange.on_first("writing the codes", lambda: _write(file, arrays))


def _write(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    try:
        file.parent.mkdir(exist_ok=True)
        write_arrays(file, arrays)
    except OSError as error:
        raise disk.explain(error, file.parent, "writing the codes") or error from error
