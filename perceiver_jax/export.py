# SPDX-License-Identifier: Apache-2.0
"""Export a run: `python -m perceiver_jax.export --workdir=RUN [--output_dir=DIR]`.

Writes the computation as StableHLO (`jax.export`, any batch size, for CPU, CUDA and TPU), the weights as safetensors,
config.json, and README.md, the model card with the code that loads them. Both files are read back and compared with the
run before anything takes the place of an earlier export.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default the newest under runs/")
OUTPUT_DIR = flags.DEFINE_string("output_dir", "", "where to; default RUN/export")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")


def main(argv: Sequence[str]) -> None:
    """Writes an export of --workdir."""
    from perceiver_jax import experiment
    from perceiver_jax.reports.exported import check_folder, write_export
    from perceiver_jax.run_folder import chosen

    workdir = chosen(WORKDIR.value)
    folder = Path(OUTPUT_DIR.value or workdir / "export")
    check_folder(folder)
    difference = write_export(folder, experiment.load(workdir, CHECKPOINT.value))
    print(f"export: {folder} ({', '.join(sorted(file.name for file in folder.iterdir()))})")
    print(f"read back and compared with the run: probabilities differ by at most {difference:.1e}")


def run() -> None:
    """The command."""
    command_line.run(main)


if __name__ == "__main__":
    run()
