# SPDX-License-Identifier: Apache-2.0
"""Time and memory over the length: `python -m benchmarks.long_inputs [--peer_lengths=50176] [--plot=FILE]`.

Forward and backward pass of an encoder with 256 x 512 latents, one cross-attend and 4 self-attention layers, 8 heads,
64 channels, batch 1, in float32 on the CPU, beside Hugging Face transformers' PyTorch layers of the same sizes (extra
`bench`), which hold their scores: 2.1 GB for each copy at 262,144 elements. Each pair of implementation and length has
a process of its own, in which its peak memory counts; times are compared within interleaved rounds.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import measure
from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

LENGTHS = flags.DEFINE_list("lengths", ["50176", "262144", "1048576"], "of the input")
PEER_LENGTHS = flags.DEFINE_list("peer_lengths", ["50176"], "those at which the peer is measured too; none: ours alone")
ROUNDS = flags.DEFINE_integer("rounds", 3, "how often the time is measured", lower_bound=1)
CLOCK = flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "cpu: the time of the process, for a busy machine")
PLOT = flags.DEFINE_string("plot", "", "picture to write")
JSON = flags.DEFINE_string("json", "", "file to write the results to")

SIZES = {
    "num_latents": 256,
    "latent_dim": 512,
    "num_cross_attends": 1,
    "num_blocks": 4,
    "num_self_attends_per_block": 1,
    "num_cross_attend_heads": 8,
    "num_self_attend_heads": 8,
    "cross_attend_widening_factor": 1,
    "self_attend_widening_factor": 1,
    "cross_attend_width": "latents",
    "share_cross_attends": "none",
    "share_blocks": "none",
    "exact_gelu": False,
    "pooling": "mean",
}
CHANNELS = 64
PLACES = {"ours": "benchmarks.long_encoders:JaxEncoder", "hf": "benchmarks.long_encoders:TorchEncoder"}
NAMES = {"ours": ("perceiver_jax", "o-"), "hf": ("Hugging Face, PyTorch", "s--")}
COLUMNS = ("length", "implementation", "ms", "min - max", "peak MB", "input MB", "ours / it: time", "memory")


def main(argv: Sequence[str]) -> None:
    """Measures all lengths."""
    lengths, peer_lengths = _numbers("lengths", LENGTHS.value), _numbers("peer_lengths", PEER_LENGTHS.value)
    if peer_lengths:
        measure.require("bench", "torch", "transformers")
    results = {"machine": measure.machine(), "clock": CLOCK.value, "sizes": SIZES | {"channels": CHANNELS}}
    print(f"{CLOCK.value} time; {measure.describe(results['machine'])}", flush=True)
    rows = [at_length(n, ["ours", *(["hf"] if n in peer_lengths else [])], ROUNDS.value) for n in lengths]
    results |= {"lengths": dict(zip(map(str, lengths), rows, strict=True)), "growth": growth(rows)}
    show(results)
    measure.write_json(JSON.value, results)
    if PLOT.value:
        plot(results, PLOT.value)


def _numbers(name: str, values: Sequence[str]) -> list[int]:
    if wrong := [value for value in values if not value.isdecimal() or int(value) < 1]:
        raise ConfigError(f"--{name}={wrong[0]}: expected lengths of at least 1, with commas, e.g. 50176,262144.")
    return sorted(map(int, values))


def at_length(length: int, names: Sequence[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Implementation -> its times, its memory and the ratios to it."""
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(measure.Worker(name, PLACES[name], SIZES, length, CHANNELS)) for name in names
        }
        bursts = {(name, CLOCK.value): _burst(worker) for name, worker in workers.items()}
        times = {name: by_clock[CLOCK.value] for name, by_clock in measure.interleave(bursts, rounds, 0.0).items()}
        memory = {name: worker.call("memory") for name, worker in workers.items()}
    return {
        name: {
            "ms": measure.spread(times[name], 1e3),
            "peak_memory_mb": memory[name],
            "ours_over_this": {
                "time": measure.ratio(times["ours"], times[name]),
                "memory": memory["ours"]["process"] / memory[name]["process"],
            },
        }
        for name in names
    }


def _burst(worker: measure.Worker):
    return lambda count: worker.call("burst", CLOCK.value, count)


def growth(rows: Sequence[Mapping[str, Any]]) -> float:
    """Our memory apart from the input: that of the longest over that of the shortest."""
    memory = [row["ours"]["peak_memory_mb"] for row in rows]
    return (memory[-1]["process"] - memory[-1]["input"]) / (memory[0]["process"] - memory[0]["input"])


def show(results: Mapping[str, Any]) -> None:
    """Prints the table."""
    rows = [_row(length, name, it) for length, found in results["lengths"].items() for name, it in found.items()]
    measure.print_table(COLUMNS, rows)
    lengths = list(map(int, results["lengths"]))
    print(f"our memory without the input, {lengths[-1]:,} over {lengths[0]:,} elements: {results['growth']:.2f}")


def _row(length: str, name: str, it: Mapping[str, Any]) -> list[str]:
    times, memory, ratio = it["ms"], it["peak_memory_mb"], it["ours_over_this"]
    spread = f"{times['min']:,.0f} - {times['max']:,.0f}"
    sizes = f"{memory['process']:,.0f}", f"{memory['input']:,.0f}"
    return [
        f"{int(length):,}",
        name,
        f"{times['median']:,.0f}",
        spread,
        *sizes,
        f"{ratio['time']:.2f}",
        f"{ratio['memory']:.2f}",
    ]


def plot(results: Mapping[str, Any], file: str) -> None:
    """Writes time and memory over the length."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    values = {
        f"{results['clock']} time of a pass, s": lambda it: it["ms"]["median"] / 1e3,
        "peak memory of the process, MB": lambda it: it["peak_memory_mb"]["process"],
    }
    lengths = list(map(int, results["lengths"]))
    for axis, (label, value) in zip(axes, values.items(), strict=True):
        for name, (full_name, marker) in NAMES.items():
            points = [(int(n), value(found[name])) for n, found in results["lengths"].items() if name in found]
            if points:
                axis.plot(*zip(*points, strict=True), marker, label=full_name)
        axis.set(xlabel="elements of the input", ylabel=label, ylim=(0, None), xscale="log")
        axis.set_xticks(lengths, [f"{length:,}" for length in lengths], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
        axis.legend()
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot={file} cannot be written ({error}).") from error
    print(f"written: {file}")


def run() -> None:
    """The command."""
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
