# SPDX-License-Identifier: Apache-2.0
"""Predict with a run: `python -m perceiver_jax.predict --workdir=RUN --input FILE... [--attention] [--json]`.

Files are images, .off, .ply, .pcd or .txt clouds, .ts sequences, text, or .npy arrays (of one input, or of many), as
the run was trained on. Needs the run folder alone. A run that finds slots says what share of an image each
owns, or what objects there are, and writes masks.npz or objects.npz, and results.png into RUN/predictions/.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default the newest under runs/")
INPUT = flags.DEFINE_multi_string("input", [], "file to predict for; more may follow: --input a.png b.png")
TOPK = flags.DEFINE_integer("topk", 5, "classes shown of each input, the most likely first", lower_bound=1)
JSON = flags.DEFINE_bool("json", False, "print JSON: a list with an object for each input")
ATTENTION = flags.DEFINE_bool(
    "attention",
    False,
    "draw what the model attends to: RUN/figures/attention_FILE.png; of slots attention.png",
)
OUTPUT_DIR = flags.DEFINE_string("output_dir", "", "of slots: where the files go; default RUN/predictions")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")


def main(argv: Sequence[str]) -> None:
    """Prints the most likely classes of each input."""
    files = [Path(name) for name in (*INPUT.value, *argv[1:])]
    if not files:
        raise ConfigError("--input is missing: the files to predict for, e.g. --input cloud.off other.off")
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ConfigError(f"--input: no such file: {', '.join(missing)}.")
    from perceiver_jax.run_folder import chosen
    from perceiver_jax.training import processes

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for JSON
        workdir = chosen(WORKDIR.value)
    asked = {"workdir": str(workdir.absolute()), "checkpoint": CHECKPOINT.value, "inputs": list(map(str, files))}
    with processes.joined(asked, **command_line.process_flags()):
        _predict(files, workdir)


def _predict(files: list[Path], workdir: Path) -> None:
    from perceiver_jax.data import inputs
    from perceiver_jax.prediction import Predictor
    from perceiver_jax.reports.predictions import print_predictions

    predictor = Predictor.from_run(workdir, CHECKPOINT.value)
    found = {name: value for file in files for name, value in inputs.read(file, predictor.spec).items()}
    if predictor.finds_slots:
        return _take_apart(predictor, found, Path(OUTPUT_DIR.value or workdir / "predictions"))
    tops = predictor(list(found.values()), list(found)).top(TOPK.value)
    if ATTENTION.value:
        _draw(predictor, found, workdir)
    if JSON.value:
        print(json.dumps([_described(name, top) for name, top in zip(found, tops, strict=True)], indent=1))
    else:
        print_predictions(f"{workdir}, checkpoint of step {predictor.run.step}", dict(zip(found, tops, strict=True)))


def _take_apart(predictor, found: dict, folder: Path) -> None:
    """What each slot has of each image; stdout has the predictions, files are named beside it."""
    from perceiver_jax.reports import slot_predictions
    from perceiver_jax.training.exchange import on_first

    names, images = list(found), [predictor.prepare(value, name) for name, value in found.items()]
    arrays = predictor(list(found.values()), names)
    records = slot_predictions.records(names, arrays)
    print(json.dumps(records, indent=1) if JSON.value else "\n".join(map(slot_predictions.line, records)))

    def write() -> list[str]:
        written = slot_predictions.write(folder, names, np.stack(images), arrays, attention=ATTENTION.value)
        return list(map(str, written))

    for file in on_first("predictions", write):
        print(f"written: {file}", file=sys.stderr)


def _draw(predictor, found: dict, workdir: Path) -> None:
    """A picture for each input; stdout is for the predictions."""
    from perceiver_jax.reports.attention_report import write_inputs
    from perceiver_jax.training.exchange import on_first

    maps = {Path(name).name.replace(":", "_"): predictor.attention(value, name) for name, value in found.items()}
    for file in on_first("figures", lambda: list(map(str, write_inputs(maps, workdir / "figures")))):
        print(f"written: {file}", file=sys.stderr)


def _described(name: str, top: list[tuple[str, float]]) -> dict:
    return {"input": name, "predictions": [{"class": label, "probability": value} for label, value in top]}


def run() -> None:
    """The command."""
    command_line.define_processes()
    command_line.run(main, words=True)


if __name__ == "__main__":
    run()
