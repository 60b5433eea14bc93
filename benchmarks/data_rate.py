# SPDX-License-Identifier: Apache-2.0
"""Time the data: `python -m benchmarks.data_rate --config=configs/modelnet40.py [--batch_size=8] [--steps=20]`.

Batches and examples per second through the whole pipeline (order, augmentation, Grain), against the source alone in a
loop (NumPy), and the share of real training steps that was spent waiting for data.
"""

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from perceiver_jax import command_line

BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "instead of config.batch_size", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "how often both are measured", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 1.0, "of a burst of batches", lower_bound=0.0)
STEPS = flags.DEFINE_integer("steps", 20, "real training steps; 0: none", lower_bound=0)
JSON = flags.DEFINE_string("json", "", "file to write the results to")


def main(argv: Sequence[str]) -> None:
    """Measures the data of --config."""
    from benchmarks.inputs import on_available_data
    from perceiver_jax import config as configs

    file = command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    config["batch_size"] = BATCH_SIZE.value or config["batch_size"]
    results = {"machine": measure.machine(), "config": config}
    print(f"{file}, batch {config['batch_size']}; {measure.describe(results['machine'])}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        available, results["notes"] = on_available_data(config, Path(folder))
        results |= measure_data(available, ROUNDS.value, SECONDS.value, STEPS.value)
    show(results)
    measure.write_json(JSON.value, results)


def measure_data(config: Mapping[str, Any], rounds: int, seconds: float, num_steps: int) -> dict[str, Any]:
    """Rates of the source alone and of the pipeline, and the wait in training where `num_steps` is not 0."""
    from perceiver_jax import experiment

    training = experiment.build(config)
    results = rates(training, rounds, seconds)
    if num_steps:
        results["training"] = waits(training, num_steps)
    return results | {"versions": measure.versions("grain", "numpy", "jax")}


def rates(training, rounds: int, seconds: float) -> dict[str, Any]:
    """Batches and examples per second, the source alone and the pipeline by turns."""
    from perceiver_jax.data.pipeline import train_batches, train_plan

    source, settings = training.source, training.settings
    plan = train_plan(source, settings.batch_size, settings.seed)
    numbers = itertools.count()

    def load(count: int) -> float:
        began = time.perf_counter()
        for i in itertools.islice(numbers, count):
            source.load("train", plan.ids(i), plan.epoch(i))
        return (time.perf_counter() - began) / count

    with train_batches(source, plan, start_step=0, num_steps=2**31, **_reading(settings)) as batches:
        bursts = {("source", "batch"): load, ("pipeline", "batch"): lambda count: _draw(batches, count, settings)}
        times = measure.interleave(bursts, rounds, seconds)
    alone, piped = times["source"]["batch"], times["pipeline"]["batch"]
    return {
        "batches_per_second": {
            "source": measure.spread([1 / taken for taken in alone]),
            "pipeline": measure.spread([1 / taken for taken in piped]),
        },
        "examples_per_second": {
            "source": measure.spread([settings.batch_size / taken for taken in alone]),
            "pipeline": measure.spread([settings.batch_size / taken for taken in piped]),
        },
        "pipeline_over_source": measure.ratio(alone, piped),
        "num_workers": settings.num_workers,
        "prefetch": settings.prefetch,
    }


def _reading(settings) -> dict[str, int]:
    return {"num_workers": settings.num_workers, "prefetch": settings.prefetch}


def _read_ahead(settings) -> int:
    """Batches that may lie ready before anybody waits."""
    return settings.prefetch * max(settings.num_workers, 1) + 1


def _draw(batches: Iterator, count: int, settings) -> float:
    """Seconds of one of `count` batches, once those are gone that were read ahead while nobody waited."""
    for _ in range(_read_ahead(settings)):
        next(batches)
    began = time.perf_counter()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - began) / count


def waits(training, num_steps: int) -> dict[str, float]:
    """What the trainer waits for data, over `num_steps` steps after those that the batches read ahead serve."""
    import jax

    from benchmarks.jax_steps import training_step
    from perceiver_jax.data.pipeline import train_batches, train_plan
    from perceiver_jax.training.sharding import put_batch
    from perceiver_jax.training.state import init_state

    settings = training.settings
    make_state, _, step = training_step(training, training.task)
    state = init_state(make_state, training.mesh, settings.seed)
    plan = train_plan(training.source, settings.batch_size, settings.seed)
    uncounted, waited, last = _read_ahead(settings), [], None
    total = uncounted + num_steps
    with train_batches(training.source, plan, start_step=0, num_steps=total, **_reading(settings)) as batches:
        for i in range(total):
            if i == uncounted:
                jax.block_until_ready(state)
                began = time.perf_counter()
            asked = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - asked)
            with jax.set_mesh(training.mesh):
                state, report = step(state, put_batch(batch, training.mesh))
            jax.block_until_ready(last)  # one step late, as the trainer
            last = report
        jax.block_until_ready(state)
    taken, wait = time.perf_counter() - began, sum(waited[uncounted:])
    return {
        "steps": num_steps,
        "step_ms": 1e3 * taken / num_steps,
        "wait_ms": 1e3 * wait / num_steps,
        "wait_share": wait / taken,
    }


def show(results: Mapping[str, Any]) -> None:
    """Prints the notes and the table."""
    for note in results["notes"]:
        print(note)
    rows = []
    for name in ("source", "pipeline"):
        batches, examples = results["batches_per_second"][name], results["examples_per_second"][name]
        extent = f"{examples['min']:,.0f} - {examples['max']:,.0f}"
        rows.append([name, f"{batches['median']:,.1f}", f"{examples['median']:,.0f}", extent])
    measure.print_table(("medians of rounds", "batches/s", "examples/s", "min - max"), rows)
    print(f"the pipeline reaches {results['pipeline_over_source']:.2f} of the source alone (NumPy)")
    if training := results.get("training"):
        print(
            f"training: {training['step_ms']:,.1f} ms a step over {training['steps']} steps, of which "
            f"{training['wait_ms']:.3f} ms waiting for data ({100 * training['wait_share']:.2f} %)"
        )


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
