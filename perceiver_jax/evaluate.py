# SPDX-License-Identifier: Apache-2.0
"""Evaluate a run: `python -m perceiver_jax.evaluate --workdir=RUN [--split=test] [--checkpoint=best|latest|STEP]`.

With --analyze also confusions, calibration and the most confident mistakes, as figures and as report.html. With
--perturb also on clouds that were turned, moved, scaled or thinned out (`data.perturbation`): results.json keeps it
when the same checkpoint is evaluated again. Results lie in RUN/evaluation/SPLIT-STEP/, which is replaced as a whole.
--num_slots and --num_iterations change slot attention for this evaluation alone: they stand in the folder's name, and
`evaluation/results.json` stays as it is.
"""

import functools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default the newest under runs/")
flags.DEFINE_alias("logs_dir", "workdir")
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
DATA_PATH = flags.DEFINE_string("data_path", "", "where the data lies, if not where the run found it")
ANALYZE = flags.DEFINE_bool("analyze", False, "write figures and report.html")
FORMAT = flags.DEFINE_list("format", ["png"], "files of each figure: png, svg, pdf")
OUTPUT_DIR = flags.DEFINE_string("output_dir", "", "where the results go instead, a folder of their own")
PERTURB = flags.DEFINE_bool("perturb", False, "measure accuracy on perturbed clouds too")
NUM_SLOTS = flags.DEFINE_integer("num_slots", None, "slots; default: the run's", lower_bound=1)
NUM_ITERATIONS = flags.DEFINE_integer("num_iterations", None, "of slot attention; default: the run's", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "default: the run's", lower_bound=1)

OF_SLOTS = (NUM_SLOTS, NUM_ITERATIONS)


def main(argv: Sequence[str]) -> None:
    """Evaluates every example of a split once, prints a table and writes results.json."""
    from perceiver_jax import run_folder
    from perceiver_jax.figures.canvas import check_formats
    from perceiver_jax.training import processes

    check_formats(FORMAT.value)
    workdir, folder = run_folder.chosen(WORKDIR.value), Path(OUTPUT_DIR.value) if OUTPUT_DIR.value else None
    asked = {flag.name: flag.value for flag in (CHECKPOINT, SPLIT, BATCH_SIZE, ANALYZE, PERTURB, *OF_SLOTS)}
    with processes.joined(asked | {"workdir": str(workdir.absolute())}, **command_line.process_flags()):
        _evaluate(workdir, folder)


def _evaluate(workdir: Path, folder: Path | None) -> None:
    from perceiver_jax import code_scores, experiment
    from perceiver_jax.data.perturbation import check_clouds
    from perceiver_jax.reports import perturbations
    from perceiver_jax.reports import results as files
    from perceiver_jax.training import processes
    from perceiver_jax.training.exchange import on_first
    from perceiver_jax.training.record import data_facts

    mesh = None if PERTURB.value else experiment.run_mesh(workdir)  # lengths that its sequence axis divides
    run = experiment.load(workdir, CHECKPOINT.value, data_path=DATA_PATH.value, mesh=mesh)
    run = run.changed(**{flag.name: flag.value for flag in OF_SLOTS})
    if run.changes:
        folder = folder or files.folder_of(run.workdir, SPLIT.value, run.step, run.changes)
    files.check_folder(folder or files.folder_of(run.workdir, SPLIT.value, run.step))
    if (ANALYZE.value or PERTURB.value) and not run.spec.class_names:
        raise ConfigError(
            f"--analyze and --perturb are for classifiers: {run.workdir} was trained without classes. Leave them out; "
            "what slots show: python -m perceiver_jax.visualize slots"
        )
    source = run.source()
    processes.agree("data", data_facts(source))
    if PERTURB.value:
        check_clouds(source)
    evaluated = functools.partial(run.evaluate, SPLIT.value, BATCH_SIZE.value)
    results = evaluated(source) | code_scores.scores(run, SPLIT.value, source)
    if PERTURB.value:
        results["perturb"] = perturbations.measure(
            lambda each: evaluated(each)["accuracy"], source, results["accuracy"]
        )
    else:
        results = files.with_earlier_perturb(run.workdir, results)
    draw = _analyze(run, source, results) if ANALYZE.value else None
    files.print_results(results)
    file = on_first("results", lambda: str(files.write_results(run.workdir, results, folder=folder, draw=draw)))
    print(f"results: {file}")
    if ANALYZE.value:
        print(f"report: {Path(file).with_name('report.html')}")


def _analyze(run, source, results: dict[str, Any]) -> Callable[[Path], None]:
    """Adds the analysis to the results; returns what writes the report into a folder."""
    from perceiver_jax import config as configs
    from perceiver_jax.reports import analysis, evaluation, examples

    rows = run.predictions(SPLIT.value, BATCH_SIZE.value, source)
    predictions = analysis.Predictions.of(rows, source.labels(SPLIT.value))
    results |= analysis.analyze(predictions, run.spec.class_names)
    report = evaluation.Report(
        title=f"{run.workdir.name}: {SPLIT.value}",
        results=results,
        predictions=predictions,
        class_names=run.spec.class_names,
        examples=examples.read(source, SPLIT.value, [mistake["id"] for mistake in results["mistakes"]]),
        config=run.config,
        record=configs.load(run.workdir / "run.json"),
        command=f"python -m perceiver_jax.evaluate --workdir={shlex.quote(str(run.workdir))} --split={SPLIT.value} "
        f"--checkpoint={run.step} --analyze",
    )
    return lambda folder: evaluation.write(folder, report, FORMAT.value)


def run() -> None:
    """The command."""
    command_line.define_processes()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
