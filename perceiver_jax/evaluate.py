# SPDX-License-Identifier: Apache-2.0
"""Evaluate a run: `python -m perceiver_jax.evaluate --workdir=RUN [--split=test] [--checkpoint=best|latest|STEP]`.

With --perturb also on clouds that were turned, moved, scaled or thinned out (`data.perturbation` says how): the table
goes into results.json under "perturb" and stays there when the same checkpoint is evaluated again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", "", "run folder")
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
DATA_PATH = flags.DEFINE_string("data_path", "", "where the data lies, if not where the run found it")
PERTURB = flags.DEFINE_bool("perturb", False, "measure accuracy on perturbed clouds too")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "default: the run's", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Evaluates every example of a split once, prints a table and writes results.json."""
    from perceiver_jax import experiment
    from perceiver_jax.data.perturbation import check_clouds
    from perceiver_jax.reports.results import print_results, with_earlier_perturb, write_results

    if not WORKDIR.value:
        raise ConfigError("--workdir is missing: the run to evaluate, e.g. --workdir=runs/solids.")
    run = experiment.load(Path(WORKDIR.value), CHECKPOINT.value, data_path=DATA_PATH.value)
    source = run.source()
    if PERTURB.value:
        check_clouds(source)
    results = run.evaluate(SPLIT.value, BATCH_SIZE.value, source)
    print_results(results)
    if PERTURB.value:
        results["perturb"] = _perturb(run, source, results)
    else:
        results = with_earlier_perturb(run.workdir, results)
    file = write_results(run.workdir, results)
    print(f"results: {file}")


def _perturb(run, source, clean: dict[str, Any]) -> dict[str, Any]:
    """Accuracy by kind and strength, printed."""
    from perceiver_jax.data.perturbation import SEED, STRENGTHS, UNITS, Perturbed
    from perceiver_jax.reports.results import print_perturbations

    if "accuracy" not in clean:
        raise ConfigError(f"--perturb measures accuracy: the task of {run.workdir} has none.")
    scores = {
        kind: {
            f"{strength:g}": run.evaluate(SPLIT.value, BATCH_SIZE.value, Perturbed(source, kind, strength))["accuracy"]
            for strength in strengths
        }
        for kind, strengths in STRENGTHS.items()
    }
    perturb = {"seed": SEED, "clean": clean["accuracy"], "accuracy": scores}
    print_perturbations(perturb, UNITS)
    return perturb


def run() -> None:
    """The command."""
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
