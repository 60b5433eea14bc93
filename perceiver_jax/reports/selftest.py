# SPDX-License-Identifier: Apache-2.0
"""Every kind of figure, drawn from procedural data: does it look as it should on this machine, with these fonts?

A new kind is a line of `KINDS`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from perceiver_jax.data.babble import Babble
from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.patterns import Patterns
from perceiver_jax.data.properties import decoded
from perceiver_jax.data.scenes import Shapes
from perceiver_jax.data.solids import Solids
from perceiver_jax.data.source import Source
from perceiver_jax.figures import attention, canvas, codes, confidence, confusion, dashboard, object_sets, slots
from perceiver_jax.figures import curves as comparison
from perceiver_jax.files import write_all
from perceiver_jax.metrics.calibration import calibration_bins, calibration_errors
from perceiver_jax.reports import attention_examples, attention_report, examples
from perceiver_jax.reports.curves import Curve, Curves
from perceiver_jax.reports.dashboard import contents

NAMES = ("cat", "dog", "the longest name of a class that anybody would give to one", "고양이", "의자와 책상", "$x_1$")
"""Of classes: long ones, Korean ones, and one that is no formula."""
EXAMPLES, SHOWN = 2000, 12


def write(folder: Path, formats: tuple[str, ...], flags: Any) -> list[Path]:
    """The files, FOLDER/figures/KIND.FORMAT; nothing is written before all are drawn."""
    figures = {name: draw() for name, draw in KINDS.items()}
    return write_all(
        {
            folder / "figures" / f"{name}.{kind}": canvas.rendered(figure, kind)
            for name, figure in figures.items()
            for kind in formats
        }
    )


def _samples(source: Source) -> Any:
    ids = np.arange(SHOWN)
    batch = source.load("train", ids, None)
    return canvas.picture(examples.sheet(source, batch, [source.spec.class_names[k] for k in batch["label"]]))


def _outcomes() -> tuple[np.ndarray, np.ndarray]:
    """Confidence of a classifier that is a little too sure, and whether it was right."""
    random = np.random.default_rng(0)
    sure = random.beta(5, 1.5, EXAMPLES)
    return sure, random.random(EXAMPLES) < sure**1.3


def _confusion_matrix() -> Any:
    random = np.random.default_rng(0)
    mistakes = random.poisson(3, (len(NAMES), len(NAMES)))
    return confusion.figure(mistakes + np.diag(random.poisson(80, len(NAMES))), NAMES)


def _confidence_analysis() -> Any:
    sure, right = _outcomes()
    bins = calibration_bins(sure, right)
    return confidence.analysis(sure, right, bins, calibration_errors(bins)[0])


def _dashboard() -> Any:
    """Forty epochs that begin to overfit half way."""
    random, epochs = np.random.default_rng(0), np.arange(1.0, 41)

    def noisy(values: np.ndarray) -> Curve:
        return Curve(epochs, values + random.normal(0, 0.01, len(epochs)))

    fall, late = np.exp(-epochs / 8), np.maximum(epochs - 20, 0)
    by_name = {
        "train/loss": noisy(2.5 * fall + 0.03),
        "validation/loss": noisy(2.4 * fall + 0.3 + 0.01 * late),
        "train/accuracy": noisy(0.98 - 0.85 * fall),
        "validation/accuracy": noisy(0.88 - 0.75 * fall - 0.002 * late),
        "train/learning_rate": Curve(epochs, np.where(epochs < 30, 1e-3, 1e-4)),
    }
    curves = Curves(by_name, unit="epoch", held_out="validation", last_step=4000, seconds=3600.0)
    return dashboard.draw(contents(curves, "procedural curves", [10, 20]))


def _curves() -> Any:
    random, epochs = np.random.default_rng(0), np.arange(1, 41)

    def curve(rate: float) -> comparison.Curve:
        mean = np.exp(-rate * epochs) * 2 + 0.02 + random.normal(0, 0.003, len(epochs))
        return comparison.Curve(epochs, mean, 0.1 * mean)

    loss = [curve(0.04 * (k + 1)) for k in range(len(NAMES))]
    accuracy = [comparison.Curve(epochs, 1 - np.minimum(part.mean / 2.2, 0.9), part.spread / 4) for part in loss]
    return comparison.figure({"loss": loss, "accuracy": accuracy}, NAMES, "epoch")


def _attention(source: Source, kind: str, grid: tuple[int, int] | None = None) -> Any:
    """The six panels for one example."""
    arrays, about, inputs = _example(source, kind, grid, np.arange(3, 4))
    return attention_report.of_input(_maps(1, inputs, 1.5), about, arrays, "procedural")


def _evolution() -> Any:
    """Maps of three drawings that sharpen over epochs."""
    arrays, about, inputs = _example(Drawings(), "image", (8, 8), np.arange(3))
    shown, choice = attention_examples.of(about, arrays), attention_report.Choice(None, None, "mean", False)
    epochs = (1.0, 10.0, 20.0, 40.0)
    steps = [attention_report.prepared(_maps(3, inputs, epoch / 20), epoch, choice, shown) for epoch in epochs]
    maps, statistics = ({one.epoch: getattr(one, name) for one in steps} for name in ("maps", "statistics"))
    look, titles = attention.Look("viridis", 0.7, 4.0), list(about["class_names"][:3])
    return attention.evolution(shown.view, maps, statistics, titles, heading="procedural maps", look=look)


def _example(source: Source, kind: str, grid: tuple[int, int] | None, ids: np.ndarray) -> tuple[dict, dict, int]:
    """Arrays and facts of examples as RUN/attention/ has them, and the number of inputs."""
    batch = source.load("train", ids, None)
    name = next(name for name in batch if name not in ("label", "mask"))
    patch = batch[name].shape[1] // grid[0] if grid else 1
    about = {"kind": kind, "array": name, "grid": grid, "patch": patch, "permutation": None}
    about["class_names"] = list(source.spec.class_names)
    return batch, about, math.prod(grid) if grid else batch[name].shape[1]


def _maps(count: int, inputs: int, rise: float) -> dict[str, np.ndarray]:
    """Two stages, two heads, four latents; the higher `rise`, the fewer inputs get most."""
    random = np.random.default_rng(0)
    cross = np.exp(rise * random.normal(size=(count, 2, 2, 4, inputs)))
    return {"cross": cross / cross.sum(-1, keepdims=True), "probabilities": np.tile([[0.2, 0.7, 0.1]], (count, 1))}


def _scenes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images, what slots show of them, blurred true objects as their masks, and attention that sharpens."""
    batch, count = Shapes(max_objects=4).load("train", np.arange(3), None), 5
    near = gaussian_filter(np.moveaxis(np.eye(count)[batch["objects"]], 3, 1), (0, 0, 1, 1))
    powers = [near**power for power in (0.1, 0.5, 2.0)]
    masks, *_ = maps = [(power + 1e-3) / (power + 1e-3).sum(1, keepdims=True) for power in (near, *powers)]
    recons = batch["image"][:, None].repeat(count, 1)
    return batch["image"], recons, masks[..., None], np.stack(maps[1:], 1).astype(np.float32)


def _object_sets() -> Any:
    """True objects of three images, and predictions beside them, some of another class."""
    source = Shapes(max_objects=4, num_colours=6, num_sizes=2)
    batch, random = source.load("train", np.arange(3), None), np.random.default_rng(0)
    true = object_sets.Objects.of(decoded(source.spec.properties, batch["properties"]), 0.5)
    places = np.clip(true.places + random.normal(0, 0.03, true.places.shape), 0, 1)
    classes = np.where(random.random(true.classes.shape) < 0.1, 0, true.classes)
    said = object_sets.Objects(places, classes, true.present)
    pairs = np.tile(np.arange(4), (3, 1))
    return canvas.picture(object_sets.sheet(batch["image"], said, true, pairs))


def _code_use() -> Any:
    """Codebooks that are used evenly, unevenly, and by a few codes alone."""
    shares = [np.exp(-np.arange(64) / scale) for scale in (1000, 20, 4)]
    counts = np.stack([np.random.default_rng(0).multinomial(4000, share / share.sum()) for share in shares])
    return codes.use_of_codes(counts, ["even", "uneven", "few"])


KINDS: dict[str, Callable[[], Any]] = {
    "samples_clouds": lambda: _samples(Solids(num_points=512)),
    "samples_images": lambda: _samples(Drawings(size=32)),
    "samples_sequences": lambda: _samples(Patterns(num_channels=3)),
    "samples_text": lambda: _samples(Babble()),
    "confusion_matrix": _confusion_matrix,
    "confidence_histogram": lambda: confidence.histogram(*_outcomes()),
    "confidence_analysis": _confidence_analysis,
    "comparison": _curves,
    "dashboard": _dashboard,
    "attention_image": lambda: _attention(Drawings(), "image", (8, 8)),
    "attention_cloud": lambda: _attention(Solids(num_points=256), "points"),
    "attention_sequence": lambda: _attention(Patterns(num_channels=3), "sequence"),
    "attention_text": lambda: _attention(Babble(), "text"),
    "attention_evolution": _evolution,
    "slots_results": lambda: slots.visualize_slots(*_scenes()[:3]),
    "slots_attention_evolution": lambda: slots.visualize_attention_evolution(_scenes()[3][:1], images=_scenes()[0][:1]),
    "slots_decomposition": lambda: slots.visualize_slot_decomposition(*(array[0] for array in _scenes()[:3])),
    "object_sets": _object_sets,
    "codes_use": _code_use,
}
"""Name of the file -> what draws its matplotlib figure."""
