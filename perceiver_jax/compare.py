# SPDX-License-Identifier: Apache-2.0
"""Compare runs: `python -m perceiver_jax.compare RUN RUN ... [--output_dir=comparison] [--format=png,svg,pdf]`.

Prints what differs between the configs, then the scores; runs that differ in nothing but the seed are one row, mean and
standard deviation. DIR/comparison.html has the same with the curves, and comparison.png the curves alone.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

OUTPUT_DIR = flags.DEFINE_string("output_dir", "comparison", "where it goes, a folder of its own")
FORMAT = flags.DEFINE_list("format", ["png"], "files of the figure: png, svg, pdf")


def main(argv: Sequence[str]) -> None:
    """Compares the runs that the words name."""
    from perceiver_jax import run_folder
    from perceiver_jax.figures.canvas import check_formats
    from perceiver_jax.reports import comparison, results

    check_formats(FORMAT.value)
    folders = [Path(word) for word in argv[1:]]
    if len({folder.resolve() for folder in folders}) < 2:
        raise ConfigError("compare needs two runs at least: python -m perceiver_jax.compare RUN RUN ...")
    folder = Path(OUTPUT_DIR.value)
    results.check_folder(folder)
    runs = {run.resolve(): run_folder.read_files(run) for run in folders}
    groups = comparison.grouped(list(runs.values()), _ignored)
    tables = comparison.tables(groups, comparison.differences(groups, _ignored))
    comparison.show(tables)
    with results.replaced(folder) as scratch:
        comparison.write(scratch, groups, tables, FORMAT.value)
    print(f"written: {folder / 'comparison.html'}")


def _ignored(key: str) -> bool:
    """What seeds of one experiment may differ in; the data's path may be other data."""
    from perceiver_jax.run_folder import is_harmless

    return key == "seed" or (is_harmless(key) and key != "data.path")


def run() -> None:
    """The command."""
    command_line.run(main, words=True)


if __name__ == "__main__":
    run()
