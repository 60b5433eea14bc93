# SPDX-License-Identifier: Apache-2.0
"""What verified checkpoints cost: `python -m benchmarks.checkpoint_cost --config=configs/modelnet40.py:paper`.

The state of a config, filled with random numbers, is saved and restored by Orbax alone, by Orbax with its files put on
the disk, and by our `Checkpoints`, by turns, in the same folder. A save has a part that blocks training and one in the
background. Ours adds to the second the check (the checksums of all files, also timed alone) and the ledger.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from perceiver_jax import command_line

ROUNDS = flags.DEFINE_integer("rounds", 7, "how often everything is measured", lower_bound=1)
FOLDER = flags.DEFINE_string("folder", "", "where to save; default the folder for temporary files")
JSON = flags.DEFINE_string("json", "", "file to write the results to")

PARTS = ("blocking", "background", "restore")
BASES = ("orbax", "orbax_synced")
SETTLE = 0.5
"""Seconds before each save and restore, in which the disk comes to rest."""


def main(argv: Sequence[str]) -> None:
    """Measures saving and restoring the state of --config."""
    import jax

    from perceiver_jax import config as configs

    file = command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    state = random_state(config)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    facts = measure.machine()
    print(f"{file}, {size / 1e6:,.0f} MB; {measure.describe(facts)}", flush=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.value or None) as folder:
        times = compare(state, Path(folder), ROUNDS.value)
    results = {
        "machine": facts,
        "config": config,
        "megabytes": size / 1e6,
        "rounds": ROUNDS.value,
        "versions": measure.versions("jax", "orbax-checkpoint", "tensorstore"),
        "seconds": {name: {part: measure.spread(taken) for part, taken in it.items()} for name, it in times.items()},
        "ours_over": {
            name: {part: measure.ratio(times["ours"][part], times[name][part]) for part in PARTS} for name in BASES
        },
        "check_over_orbax": {
            part: measure.ratio(times["ours"]["check"], times["orbax"][part]) for part in ("background", "restore")
        },
    }
    show(results)
    measure.write_json(JSON.value, results)


def random_state(config: Mapping[str, Any]) -> Any:
    """A training state of random numbers, which no format can make smaller than trained ones."""
    import jax
    import numpy as np

    from benchmarks.inputs import on_available_data
    from perceiver_jax import experiment

    with tempfile.TemporaryDirectory() as folder:
        abstract = experiment.abstract_training_state(experiment.build(on_available_data(config, Path(folder))[0]))
    random = np.random.default_rng(0)

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.device_put(random.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding)

    return jax.tree.map(fill, abstract)


def compare(state: Any, folder: Path, rounds: int) -> measure.Times:
    """Seconds by implementation and part, one for each round, each round in another order."""
    from benchmarks.checkpoint_writers import Orbax, Ours, SyncedOrbax

    kinds = {"orbax": Orbax, "orbax_synced": SyncedOrbax, "ours": Ours}
    times = {name: {} for name in kinds}
    for turn in range(-1, rounds):  # the first one warms up
        first = turn % len(kinds)
        for name in [*kinds][first:] + [*kinds][:first]:
            with kinds[name](folder / "checkpoints") as checkpoints:
                taken = one_round(checkpoints, state)
            shutil.rmtree(folder / "checkpoints")
            for part, seconds in taken.items() if turn >= 0 else ():
                times[name].setdefault(part, []).append(seconds)
    return times


def one_round(checkpoints, state: Any) -> dict[str, float]:
    """Seconds of a save, by part, of a restore, and of the check where there is one."""
    import jax

    time.sleep(SETTLE)
    began = time.perf_counter()
    checkpoints.save(state)
    returned = time.perf_counter()
    checkpoints.wait()
    saved = time.perf_counter()
    time.sleep(SETTLE)
    asked = time.perf_counter()
    jax.block_until_ready(checkpoints.restore(state))
    taken = {"blocking": returned - began, "background": saved - returned, "restore": time.perf_counter() - asked}
    began = time.perf_counter()
    checkpoints.check()
    return taken | {"check": time.perf_counter() - began}


def show(results: Mapping[str, Any]) -> None:
    """Prints the table."""
    rows = []
    for name, it in results["seconds"].items():
        cells = [f"{it[part]['median']:.3f} ({it[part]['min']:.3f} - {it[part]['max']:.3f})" for part in PARTS]
        ratios = [f"{results['ours_over'][name][part]:.2f}" if name in BASES else "1.00" for part in PARTS]
        rows.append([name, *(cell for pair in zip(cells, ratios, strict=True) for cell in pair)])
    columns = [name for part in PARTS for name in (f"{part} s", "ours / it")]
    measure.print_table(["medians (min - max)", *columns], rows)
    shares = " and ".join(
        f"{100 * share:.0f} % of Orbax's {part}" for part, share in results["check_over_orbax"].items()
    )
    print(
        f"the check alone: {results['seconds']['ours']['check']['median']:.3f} s, {shares}; {results['rounds']} rounds"
    )


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
