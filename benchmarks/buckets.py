# SPDX-License-Identifier: Apache-2.0
"""Time length buckets: `python -m benchmarks.buckets --config=configs/sequences.py [--batch_size=32] [--batches=64]`.

Sequences per second of the trainer's own step over the same epoch, in the config's buckets and padded to the longest,
by turns. Batches lie ready; compilation is left out.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import measure
from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "instead of config.batch_size", lower_bound=1)
BATCHES = flags.DEFINE_integer("batches", 64, "of an epoch that are timed; a random part of it", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "how often both are measured", lower_bound=1)
JSON = flags.DEFINE_string("json", "", "file to write the results to")


def main(argv: Sequence[str]) -> None:
    """Measures --config with its buckets and with one."""
    from perceiver_jax import config as configs

    file = command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    config["batch_size"] = BATCH_SIZE.value or config["batch_size"]
    if config["data"].get("num_buckets", 1) < 2:
        raise ConfigError(f"{file} has no length buckets: expected --config.data.num_buckets=2 or more.")
    results = {"machine": measure.machine(), "config": config}
    print(f"{file}, batch {config['batch_size']}; {measure.describe(results['machine'])}", flush=True)
    results |= compare(config, BATCHES.value, ROUNDS.value)
    show(results)
    measure.write_json(JSON.value, results)


def compare(config: Mapping[str, Any], num_batches: int, rounds: int) -> dict[str, Any]:
    """Sequences per second of both, and the ratio within the rounds."""
    ways = {"buckets": config, "padded": {**config, "data": {**config["data"], "num_buckets": 1}}}
    bursts, shapes = {}, {}
    for name, values in ways.items():
        bursts[name, "pass"], shapes[name] = passes(values, num_batches)
    times = measure.interleave(bursts, rounds, 0.0)
    sequences = config["batch_size"] * num_batches
    return {
        "sequences_per_second": {
            name: measure.spread([sequences / taken for taken in times[name]["pass"]]) for name in ways
        },
        "lengths": shapes,
        "buckets_over_padded": measure.ratio(times["padded"]["pass"], times["buckets"]["pass"]),
        "versions": measure.versions("jax", "flax"),
    }


def passes(config: Mapping[str, Any], num_batches: int) -> tuple[Callable[[int], float], dict[int, int]]:
    """A function that trains on the same batches so many times, and how many of them have which length."""
    import jax

    from benchmarks.jax_steps import training_step
    from perceiver_jax import experiment
    from perceiver_jax.data.pipeline import train_batches, train_plan
    from perceiver_jax.training.sharding import put_batch
    from perceiver_jax.training.state import init_state

    training = experiment.build(config)
    make_state, _, step = training_step(training, training.task)
    kept = {"state": init_state(make_state, training.mesh, config["seed"])}
    plan = train_plan(training.source, config["batch_size"], config["seed"])
    with train_batches(training.source, plan, start_step=0, num_steps=num_batches) as batches:
        ready = list(batches)

    def burst(count: int) -> float:
        began = time.perf_counter()
        for batch in ready * count:
            with jax.set_mesh(training.mesh):
                kept["state"], _ = step(kept["state"], put_batch(batch, training.mesh))
        jax.block_until_ready(kept["state"])
        return (time.perf_counter() - began) / count

    lengths = [batch["mask"].shape[1] for batch in ready]
    return burst, {length: lengths.count(length) for length in sorted(set(lengths))}


def show(results: Mapping[str, Any]) -> None:
    """Prints the table."""
    rows = []
    for name, rate in results["sequences_per_second"].items():
        lengths = ", ".join(f"{count} x {length}" for length, count in results["lengths"][name].items())
        rows.append([name, f"{rate['median']:,.0f}", f"{rate['min']:,.0f} - {rate['max']:,.0f}", lengths])
    measure.print_table(("medians of rounds", "sequences/s", "min - max", "batches x length"), rows)
    print(f"in buckets {results['buckets_over_padded']:.2f} times the sequences per second of padding to the longest")


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
