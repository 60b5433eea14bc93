# SPDX-License-Identifier: Apache-2.0
"""Train variants of a config over seeds: `python -m perceiver_jax.ablate --config=CONFIG [--seeds=3] [--workdir=DIR]`.

The variants are the config itself (`base`), those that its file lists as `ABLATIONS` and the stages that begin with
a run of `base` (`NEXT_STAGES`), or all combinations of the values that --sweep gives. Each is trained by `main` and
evaluated in processes and a run folder of its own, DIR/VARIANT-SEED; what it says goes to DIR/VARIANT-SEED.log. The
same command goes on where it was stopped.
DIR/ablation.md, .csv and .png have a row for each variant: mean and standard deviation over its seeds.
"""

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NoReturn

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import EX_CONFIG, EX_TEMPFAIL, ConfigError, Retry
from perceiver_jax.training.separate_run import Failure, SeparateRun, train

SEEDS = flags.DEFINE_integer("seeds", 3, "runs of each variant: config.seed and those after it", lower_bound=1)
SWEEP = flags.DEFINE_multi_string("sweep", [], "KEY=VALUE,VALUE,...: instead of the file's variants; may be repeated")
ONLY = flags.DEFINE_list("only", [], "names of variants; default all")
WORKDIR = flags.DEFINE_string("workdir", "", "folder of the runs; default runs/CONFIG-VARIANT-ablation")


def main(argv: Sequence[str]) -> None:
    """Trains what is not trained yet, and writes the table of all there is."""
    from perceiver_jax import run_folder, variants
    from perceiver_jax.reports import ablation
    from perceiver_jax.training.preemption import Preemption

    file, given = command_line.config_file(), command_line.overrides(sys.argv[1:])
    chosen = variants.chosen(file, SWEEP.value, ONLY.value)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # leaves the accelerator to the runs
        seed, split = pool.submit(variants.check, chosen, given).result()
    folder = Path(WORKDIR.value or f"{run_folder.default_workdir(file)}-ablation")
    runs = [_run(variant, folder, given, seed + k, split) for variant in chosen for k in range(SEEDS.value)]
    with Preemption() as preemption:
        failed = {run: failure for run in runs if (failure := train(run, preemption))}
    files = {
        variant.name: [
            run_folder.read_files(run.folder) for run in runs if run.variant == variant.name and run not in failed
        ]
        for variant in chosen
    }
    errors = {run.folder.name: failure.error for run, failure in failed.items()}
    for written in ablation.write(folder, file, files, errors):
        print(f"written: {written}")
    if failed:
        _complain(failed)


def _run(variant, folder: Path, given: Sequence[str], seed: int, split: str) -> SeparateRun:
    run = folder / f"{variant.name}-{seed}"
    begins = [f"--config.init_from={folder}/{variant.follows}-{seed}"] if variant.follows else []
    train_it = ("main", *variant.arguments(given), *begins, f"--config.seed={seed}", f"--workdir={run}")
    return SeparateRun(variant.name, run, (train_it, ("evaluate", f"--workdir={run}", f"--split={split}")))


def _complain(failed: dict[SeparateRun, Failure]) -> NoReturn:
    """Of several kinds of failure the one that another try may mend, then the one that is a bug."""
    codes = {failure.code for failure in failed.values()}
    names = ", ".join(run.folder.name for run in failed)
    message = f"{len(failed)} runs failed: {names}. Their .log says why; the same command tries them again."
    if EX_TEMPFAIL in codes:
        raise Retry(message)
    if codes == {EX_CONFIG}:
        raise ConfigError(message)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main)


if __name__ == "__main__":
    run()
