# SPDX-License-Identifier: Apache-2.0
"""One tiny training a family: `python -m perceiver_jax.examples [--only=text,images] [--workdir=runs/examples]`.

Each is a config and a few overrides, trained by the command that is printed before it; none needs a download.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import EX_CONFIG, EX_TEMPFAIL, ConfigError, Retry
from perceiver_jax.training.console import SHOWN, duration, format_metric

ONLY = flags.DEFINE_list("only", [], "names of the examples to run; default all")
WORKDIR = flags.DEFINE_string("workdir", "runs/examples", "folder of the runs, one for each example")


class Example(NamedTuple):
    """What it shows, and the command that shows it.

    Attributes:
        overrides: keys of the config and their values.
    """

    shows: str
    config: str
    overrides: dict[str, Any]


EXAMPLES = {
    "point_clouds": Example(
        "Kinds of solids from 64 points of their surface, in any orientation, with Fourier positions.",
        "configs/solids.py:tiny",
        {"num_epochs": 6.0, "data.num_train": 2048},
    ),
    "sequences": Example(
        "Patterned sequences of 20 to 60 steps: batches of similar lengths, padded, masked.",
        "configs/sequences.py:tiny",
        {"num_epochs": 3.0},
    ),
    "timeseries": Example(
        "Time series with label smoothing, dropped steps, and an average of the parameters that is evaluated.",
        "configs/timeseries.py:tiny",
        {"num_steps": 160},
    ),
    "text": Example(
        "Which of four languages a line is in, from its UTF-8 bytes.",
        "configs/text.py:tiny",
        {"num_epochs": 2.0},
    ),
    "images": Example(
        "Figures in images of 16 x 16 pixels, patches of 2 x 2 with Fourier positions.",
        "configs/cifar10.py:tiny",
        {"num_epochs": 2.0, "model.adapter.patch_size": 2, "model.adapter.positions.max_resolution": 8.0},
    ),
    "perceiver_io": Example(
        "The same images read by Perceiver IO: one query decodes the class.",
        "configs/imagenet.py:io_fourier,tiny",
        {"num_epochs": 2.0, "model.num_blocks": 1, "model.adapter.patch_size": 2},
    ),
    "keras_cifar100": Example(
        "Keras' example model: learned positions, two iterations with shared weights, its sizes printed.",
        "configs/cifar100.py:tiny",
        {"num_epochs": 2.0},
    ),
    "slot_attention": Example(
        "Scenes of discs, squares and triangles, taken apart into slots by reconstruction, without labels.",
        "configs/slot_attention.py:tiny",
        {"num_epochs": 4.0},
    ),
    "own_data": Example(
        "Your own sequences: the class Waves at the end of configs/own_data.py has __len__ and __getitem__, no more.",
        "configs/own_data.py:sequences",
        {"num_epochs": 16.0, "data.num_lengths": 1, "model.num_latents": 8, "model.num_self_attends_per_block": 1},
    ),
}


def main(argv: Sequence[str]) -> None:
    """Runs the examples one after the other, then says what each has learned."""
    if unknown := [name for name in ONLY.value if name not in EXAMPLES]:
        raise ConfigError(f"--only={unknown[0]}: no such example. There are: {', '.join(EXAMPLES)}.")
    learned = [show(name, EXAMPLES[name]) for name in ONLY.value or EXAMPLES]
    print("\nWhat they have learned, on the test split:")
    print("\n".join(learned))


def show(name: str, example: Example) -> str:
    """Trains one example; returns a line with what came of it."""
    run = Path(WORKDIR.value) / name
    overrides = [f"--config.{key}={value}" for key, value in example.overrides.items()]
    arguments = ["-m", "perceiver_jax.main", f"--config={example.config}", f"--workdir={run}", *overrides]
    print(f"\n{name}: {example.shows}\n$ python {' '.join(arguments)}", flush=True)
    began = time.perf_counter()
    if code := subprocess.run([sys.executable, *arguments], check=False).returncode:
        kind = {EX_CONFIG: ConfigError, EX_TEMPFAIL: Retry}.get(code, RuntimeError)
        raise kind(f"the example {name} ended with exit code {code}; its command is above.")
    results = json.loads((run / "evaluation" / "results.json").read_text())
    classes = [f"of {len(results['per_class'])} classes"] if "per_class" in results else []
    scores = [format_metric(metric, results[metric]) for metric in SHOWN if metric in results]
    return "  ".join([f"{name:<16}", *scores, *classes, duration(time.perf_counter() - began)])


def run() -> None:
    """The command."""
    command_line.run(main)


if __name__ == "__main__":
    run()
