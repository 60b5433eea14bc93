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
    from perceiver_jax import run_folder
    from perceiver_jax.training import processes
    from perceiver_jax.training.console import Console
    from perceiver_jax.training.preemption import stoppable

    file = command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    workdir = Path(WORKDIR.value or run_folder.default_workdir(file)).absolute()
    facts = {f"config.{key}": value for key, value in configs.flat(config).items()} | {"workdir": str(workdir)}
    with processes.joined(facts, **command_line.process_flags()):
        console = Console()
        console.say(first_line(file, workdir))
        with stoppable() as preemption:
            train(config, workdir, console, preemption)


def train(config: dict, workdir: Path, console, preemption) -> None:
    """Trains, tests the best checkpoint, and says what to run next."""
    from perceiver_jax import experiment, run_folder, stages
    from perceiver_jax.training import memory, processes
    from perceiver_jax.training.console import duration, where_time_went
    from perceiver_jax.training.loop import train as run_loop
    from perceiver_jax.training.record import data_facts
    from perceiver_jax.training.times import Times, process_age
    from perceiver_jax.weights.transfer import Transfer

    began = time.perf_counter()
    with preemption.interruptible("preempted before the first step: nothing to save; run the same command to go on"):
        new = run_folder.is_new(workdir)
        config = stages.resolve(config, console.say, begun=None if new else workdir)
        training = experiment.build(config)
        processes.agree("data", data_facts(training.source, steps_per_epoch=training.settings.steps_per_epoch))
        state = experiment.abstract_training_state(training)
        transfer = experiment.initial_values(config, state) if new else Transfer()
        overview = run_folder.overview(config, training, state) if new else None
        lock = run_folder.open_run(
            workdir, config, training, state, console, transfer=transfer, allow_changes=ALLOW_CHANGES.value
        )
    training = dataclasses.replace(training, initial=transfer.values)
    with lock:
        with memory.explained(training, state):
            times = Times(workdir, process_age())
            history = run_loop(training, workdir, console, overview=overview, preemption=preemption, times=times)
        steps = max((line["step"] for line in history), default=0)
        with preemption.interruptible(f"preempted at step {steps}, saved; run the same command to go on"):
            test(training, workdir, times)
    console.say(f"finished after {steps:,} steps; this command took {duration(time.perf_counter() - began)}")
    console.say(where_time_went(times.totals(), times.starts()))
    shown = workdir.relative_to(Path.cwd()) if workdir.is_relative_to(Path.cwd()) else workdir
    console.say(f"run folder: {shown} (checkpoints, metrics.jsonl, evaluation/results.json, TensorBoard events)")
    console.say(f"next: python -m perceiver_jax.evaluate --workdir={shown}")
    console.say(f"      tensorboard --logdir {shown.parent}")


def test(training, workdir: Path, times) -> None:
    """Evaluates the best checkpoint on the test split, where there is one, and prints and keeps the results."""
    from perceiver_jax import experiment
    from perceiver_jax.reports.results import print_results, read_results, write_results
    from perceiver_jax.training import exchange
    from perceiver_jax.training.watchdog import Watchdog

    if "test" not in training.source.splits:
        return
    with Watchdog(workdir, training.settings.limits, spent=times.spent, keep=times.write) as watchdog:
        run = experiment.load(workdir, "best", mesh=training.mesh)
        earlier = exchange.on_first("test results", lambda: read_results(workdir, "test", run.step))
        results = earlier or run.evaluate("test", source=training.source, on_batch=lambda: watchdog.beat("evaluation"))
    times.write()
    exchange.on_first("writing the results", lambda: str(write_results(workdir, results)))
    print_results(results)


def first_line(file: str, workdir: Path) -> str:
    """The config, the devices, the folder."""
    import jax

    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{file} on {jax.device_count()} x {jax.devices()[0].device_kind}{processes} in {workdir}"


def run() -> None:
    """The console script `perceiver-jax`."""
    command_line.define_config()
    command_line.define_processes()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
