# SPDX-License-Identifier: Apache-2.0
"""Evaluate a run: `python -m perceiver_jax.evaluate --workdir=RUN [--split=test] [--checkpoint=best|latest|STEP]`."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", "", "run folder")
SPLIT = flags.DEFINE_string("split", "test", "train, validation or test")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
DATA_PATH = flags.DEFINE_string("data_path", "", "where the data lies, if not where the run found it")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "default: the run's", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Evaluates every example of a split once, prints a table and writes results.json."""
    from perceiver_jax import experiment
    from perceiver_jax.reports.results import print_results, write_results

    if not WORKDIR.value:
        raise ConfigError("--workdir is missing: the run to evaluate, e.g. --workdir=runs/solids.")
    run = experiment.load(Path(WORKDIR.value), CHECKPOINT.value, data_path=DATA_PATH.value)
    results = run.evaluate(SPLIT.value, BATCH_SIZE.value)
    file = write_results(run.workdir, results)
    print_results(results)
    print(f"results: {file}")


def run() -> None:
    """The command."""
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
