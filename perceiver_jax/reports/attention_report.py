# SPDX-License-Identifier: Apache-2.0
"""What a run attends to, from RUN/attention/: `comprehensive_epoch_X_analysis` and `attention_evolution_analysis`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import attention as figures
from perceiver_jax.figures import canvas
from perceiver_jax.figures.lettering import lettered
from perceiver_jax.files import write_all
from perceiver_jax.metrics import attention as metrics
from perceiver_jax.reports import attention_examples, attention_maps
from perceiver_jax.reports.attention_examples import Examples

BRIGHTEST = 99.5
"""Percentile at which colours end: a few outliers would leave all else dark."""
SAME_EPOCH = 5e-3  # epochs are named with two decimals


@dataclasses.dataclass(frozen=True)
class Choice:
    """What of the maps is shown: stage and head from 1, None for all; how heads are fused; rolled out or not."""

    stage: int | None
    head: int | None
    fusion: str
    rollout: bool

    def __str__(self) -> str:
        if self.rollout:
            return f"rollout through all layers, {self.fusion} of heads"
        stage = "all stages" if self.stage is None else f"stage {self.stage}"
        return f"{stage}, {f'{self.fusion} of heads' if self.head is None else f'head {self.head}'}, mean of latents"

    def map(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """(examples, inputs) of what a file holds; rows sum to 1.

        Raises:
            ConfigError: there is no such stage or head.
        """
        if self.rollout:
            maps = (arrays[name] for name in ("cross", "latent", "latent_stage"))
            return metrics.rollout(*maps, fusion=self.fusion).mean(1)
        for name, number, axis in (("stage", self.stage, 1), ("head", self.head, 2)):
            count = arrays["cross"].shape[axis]
            if number is not None and not 1 <= number <= count:
                raise ConfigError(f"--{name}={number}: the run has {name}s 1 to {count}.")
        stage, head = (None if number is None else number - 1 for number in (self.stage, self.head))
        return metrics.fused(arrays["cross"], metrics.AXES, stage=stage, head=head, fusion=self.fusion)


@dataclasses.dataclass(frozen=True)
class Shown:
    """The maps of one step, ready to be drawn.

    Attributes:
        maps: (examples, drawn inputs), 1 for an even spread; NaN where there is no input.
        predicted: class and probability for each example.
    """

    epoch: float
    maps: np.ndarray
    peaks: np.ndarray
    statistics: dict[str, np.ndarray]
    predicted: list[tuple[int, float]]


def write(run: Path, formats: Sequence[str], flags: Any) -> list[Path]:
    """Writes a figure for each epoch, or for the one that is asked for, and with --create_evolution the evolution.

    Raises:
        ConfigError: the run has no maps, or not of this step or epoch; a stage, a head or a colormap there is not.
    """
    known = epochs_by_step(run)
    asked = chosen_steps(run, known, flags.step, flags.epoch)
    steps = sorted(known) if flags.create_evolution else asked
    files = drawn(run, steps, asked, formats, flags, evolution=flags.create_evolution)
    return write_all({run / "figures" / name: content for name, content in files.items()})


def epochs_by_step(run: Path) -> dict[int, float]:
    """The steps there are maps of, ascending, and their epochs."""
    return {int(step): float(epoch) for step, epoch in sorted(attention_maps.read_about(run)["steps"].items())}


def drawn(
    run: Path, steps: Sequence[int], asked: Sequence[int], formats: Sequence[str], flags: Any, *, evolution: bool
) -> dict[str, bytes]:
    """Name -> content of the figures of the steps that are `asked`, and of the evolution over all `steps`.

    Raises:
        ConfigError: as `write`.
    """
    _check(flags)
    known, examples = epochs_by_step(run), attention_examples.read(run)
    choice = Choice(flags.stage, flags.head, flags.fusion, flags.rollout)
    shown = {step: prepared(attention_maps.read(run, step), known[step], choice, examples) for step in steps}
    top = max(float(np.nanpercentile(one.maps, BRIGHTEST)) for one in shown.values())
    look = figures.Look(flags.colormap, flags.alpha, top)
    return _files(run, shown, asked, examples, choice, look, formats, evolution=evolution)


def _check(flags: Any) -> None:
    if flags.colormap not in figures.COLORMAPS:
        raise ConfigError(f"--colormap={flags.colormap}: expected one of {', '.join(figures.COLORMAPS)}.")
    if not 0 <= flags.alpha <= 1:
        raise ConfigError(f"--alpha={flags.alpha}: expected 0, invisible, to 1, opaque.")
    if flags.rollout and (flags.stage is not None or flags.head is not None):
        raise ConfigError("--rollout goes through all stages and heads: leave out --stage and --head.")


def chosen_steps(run: Path, known: dict[int, float], step: int | None, epoch: float | None) -> list[int]:
    """All steps, or the one of this step or epoch.

    Raises:
        ConfigError: there is none, with those there are.
    """
    asked = [one for one in known if step in (None, one) and (epoch is None or abs(known[one] - epoch) <= SAME_EPOCH)]
    if not asked:
        words = ([] if step is None else [f"step {step}"]) + ([] if epoch is None else [f"epoch {epoch:g}"])
        listed = ", ".join(f"{one} (epoch {figures.epoch_name(known[one])})" for one in sorted(known)) or "none yet"
        raise ConfigError(f"{run} has no attention maps of {', '.join(words)}: there are those of step {listed}.")
    return asked


def prepared(arrays: dict[str, np.ndarray], epoch: float, choice: Choice, examples: Examples) -> Shown:
    """What a file holds as it is drawn."""
    maps = examples.drawn(choice.map(arrays))
    statistics = metrics.map_statistics(maps, examples.mask, examples.objects)
    statistics["std_relative"] = statistics["std"] / statistics["mean"]
    real = np.ones(maps.shape, bool) if examples.mask is None else examples.mask.astype(bool)
    relative = np.where(real, maps / statistics["mean"][:, None], np.nan)
    best = arrays["probabilities"].argmax(1)
    predicted = [(int(k), float(row[k])) for k, row in zip(best, arrays["probabilities"], strict=True)]
    return Shown(epoch, relative, metrics.is_peak(maps, real), statistics, predicted)


def of_input(maps: dict[str, np.ndarray], about: dict[str, Any], arrays: dict[str, np.ndarray], title: str) -> Any:
    """The six panels for one input that no run kept.

    Args:
        maps, about, arrays: as the files in RUN/attention/ hold them.
        title: its name.
    """
    examples, choice = attention_examples.of(about, arrays), Choice(None, None, "mean", False)
    one, classes = prepared(maps, 0.0, choice, examples), about["class_names"]
    look = figures.Look("viridis", 0.7, float(np.nanpercentile(one.maps, BRIGHTEST)))
    signs = sorted(set("".join(examples.texts)))
    with lettered([*classes, *signs, title]) as labels:
        view = _with_fonts(examples, dict(zip(signs, labels[len(classes) : -1], strict=True)))
        guesses = [f"{labels[k]} ({share:.0%})" for k, share in one.predicted]
        panels = (view, one.maps, one.peaks, one.statistics, [labels[-1]], guesses)
        return figures.comprehensive(*panels, heading=f"{title}: {choice}", look=look)


def write_inputs(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes `attention_NAME.png` for each input that no run kept.

    Args:
        found: name -> (maps, about, arrays) of one input, as `of_input` takes them.
    """
    files = {
        folder / f"attention_{name}.png": canvas.rendered(of_input(*one, name), "png") for name, one in found.items()
    }
    return write_all(files)


def _files(
    run: Path,
    shown: dict[int, Shown],
    asked: Sequence[int],
    examples: Examples,
    choice: Choice,
    look: figures.Look,
    formats: Sequence[str],
    *,
    evolution: bool,
) -> dict[str, bytes]:
    """Name -> content of every file."""
    classes, files = attention_maps.read_about(run)["class_names"], {}
    signs = sorted(set("".join(examples.texts)))
    with lettered([*classes, *signs, run.resolve().name]) as labels:
        names, letters, title = labels[: len(classes)], labels[len(classes) : -1], labels[-1]
        view = _with_fonts(examples, dict(zip(signs, letters, strict=True)))
        titles = told_apart([names[label] if names else str(label) for label in examples.labels])
        for step in asked:
            one = shown[step]
            guesses = [f"{names[k] if names else k} ({share:.0%})" for k, share in one.predicted]
            epoch = figures.epoch_name(one.epoch)
            heading = f"{title}, epoch {epoch}: {choice}"
            panels = (view, one.maps, one.peaks, one.statistics, titles, guesses)
            figure = figures.comprehensive(*panels, heading=heading, look=look)
            files |= _rendered(f"comprehensive_epoch_{epoch}_analysis", figure, formats)
        if evolution:
            maps, statistics = (
                {one.epoch: getattr(one, name) for one in shown.values()} for name in ("maps", "statistics")
            )
            figure = figures.evolution(view, maps, statistics, titles, heading=f"{title}: {choice}", look=look)
            files |= _rendered("attention_evolution_analysis", figure, formats)
    return files


def told_apart(titles: list[str]) -> list[str]:
    """Titles that come again get their number: cat, dog, cat 2."""
    before = [titles[:k].count(title) for k, title in enumerate(titles)]
    return [f"{title} {count + 1}" if count else title for title, count in zip(titles, before, strict=True)]


def _with_fonts(examples: Examples, signs: dict[str, str]) -> Any:
    """The view; of text with a sign for each character that no font has."""
    if not examples.texts:
        return examples.view
    unseen = {sign: attention_examples.UNSEEN for sign, letter in signs.items() if letter != sign and sign != " "}
    return type(examples.view)(attention_examples.shown(examples.texts, unseen))


def _rendered(name: str, figure: Any, formats: Sequence[str]) -> dict[str, bytes]:
    return {f"{name}.{kind}": canvas.rendered(figure, kind) for kind in formats}
