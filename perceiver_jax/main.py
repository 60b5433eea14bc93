# SPDX-License-Identifier: Apache-2.0
"""Train: `python -m perceiver_jax.main --config=configs/solids.py [--workdir=runs/solids] [--config.KEY=VALUE ...]`.

The same command again goes on where the run stopped; on a finished run it says so. At the end the best checkpoint is
evaluated on the test split.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default runs/CONFIG-VARIANT")
ALLOW_CHANGES = flags.DEFINE_bool("allow_changes", False, "resume although the config changes what is computed")


def main(argv: Sequence[str]) -> None:
    """Trains the experiment named by --config."""
    from perceiver_jax import config as configs
    from perceiver_jax.training.console import Console

    file = command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    workdir = Path(WORKDIR.value or default_workdir(file)).absolute()
    console = Console()
    console.say(first_line(file, workdir))
    train(config, workdir, console)


def train(config: dict, workdir: Path, console) -> None:
    """Trains, tests the best checkpoint, and says what to run next."""
    from perceiver_jax import experiment, run_folder
    from perceiver_jax.reports.results import print_results, read_results, write_results
    from perceiver_jax.training.console import duration
    from perceiver_jax.training.loop import train as run_loop
    from perceiver_jax.weights.transfer import Transfer

    began = time.perf_counter()
    training = experiment.build(config)
    state = experiment.abstract_training_state(training)
    transfer = experiment.initial_values(config, state) if run_folder.is_new(workdir) else Transfer()
    lock = run_folder.open_run(
        workdir, config, training, state, console, transfer=transfer, allow_changes=ALLOW_CHANGES.value
    )
    training = dataclasses.replace(training, initial=transfer.values)
    history = run_loop(training, workdir, console, texts=run_folder.texts(config, state))
    run = experiment.load(workdir, "best")
    if "test" in training.source.splits:
        results = read_results(workdir, "test", run.step) or run.evaluate("test", source=training.source)
        write_results(workdir, results)
        print_results(results)
    lock.release()
    steps = max((line["step"] for line in history), default=0)
    console.say(f"finished after {steps:,} steps; this command took {duration(time.perf_counter() - began)}")
    shown = workdir.relative_to(Path.cwd()) if workdir.is_relative_to(Path.cwd()) else workdir
    console.say(f"run folder: {shown} (checkpoints, metrics.jsonl, evaluation/results.json, TensorBoard events)")
    console.say(f"next: python -m perceiver_jax.evaluate --workdir={shown}")
    console.say(f"      tensorboard --logdir {shown.parent}")


def default_workdir(config_file: str) -> str:
    """`configs/modelnet40.py:paper,tiny` -> `runs/modelnet40-paper-tiny`."""
    file, _, variants = config_file.partition(":")
    return "/".join(["runs", "-".join([Path(file).stem, *filter(None, variants.split(","))])])


def first_line(file: str, workdir: Path) -> str:
    """The config, the devices, the folder."""
    import jax

    device = jax.devices()[0]
    return f"{file} on {jax.device_count()} x {device.device_kind} in {workdir}"


def run() -> None:
    """The console script `perceiver-jax`."""
    command_line.define_config()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
