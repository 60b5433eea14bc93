# SPDX-License-Identifier: Apache-2.0
"""Time a training step: `python -m benchmarks.step_time --config=configs/modelnet40.py [--peer=plain,hf]`.

Compile time (cold), a step and a forward pass (medians of interleaved rounds, each implementation in its own process),
FLOP/s as a share of the GEMM peak measured in the same rounds, peak memory. The config's data is not needed. Peers:
plain (the same model as one would write it first in Flax linen), hf (Hugging Face transformers' PyTorch layers, eager;
wants the extra `bench`), hf_compile (the same by torch.compile), unguarded (ours without the guard against non-finite
values), full_gradient (slot attention differentiated through all iterations, for configs whose `gradient` is another),
keras (configs/cifar100.py: Keras' own example on its JAX backend; extra `bench`), torch (configs/slot_attention.py: the
model from plain PyTorch layers, eager; extra `bench`), torch_channels_last (the same with images in that layout).
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

PEER = flags.DEFINE_list("peer", [], "implementations to compare with; the docstring names them")
BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "instead of config.batch_size", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "how often everything is measured", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 1.0, "of a burst of steps; one step is made at least", lower_bound=0.0)
JSON = flags.DEFINE_string("json", "", "file to write the results to")

PEERS = {
    "plain": "benchmarks.plain_perceiver:PlainSteps",
    "hf": "benchmarks.hf_perceiver:HfSteps",
    "hf_compile": "benchmarks.hf_perceiver:CompiledHfSteps",
    "unguarded": "benchmarks.jax_steps:UnguardedSteps",
    "full_gradient": "benchmarks.jax_steps:FullGradientSteps",
    "keras": "benchmarks.keras_perceiver:KerasSteps",
    "torch": "benchmarks.torch_slot_attention:SlotAttentionSteps",
    "torch_channels_last": "benchmarks.torch_slot_attention:ChannelsLastSteps",
}
NEEDS = {"keras": ("keras",)}
NEEDS |= dict.fromkeys(("hf", "hf_compile"), ("torch", "transformers"))
NEEDS |= dict.fromkeys(("torch", "torch_channels_last"), ("torch",))
"""What the extra `bench` installs for a peer."""
KINDS = ("step", "forward")
TOLERANCE = 0.002
"""By which share the number of a peer's parameters may differ."""
COLUMNS = (
    "implementation",
    "parameters",
    "compile s",
    "step ms",
    "min - max",
    "forward ms",
    "min - max",
    "GFLOP/s",
    "of GEMM peak",
    "peak MB",
    "ours / it: step",
    "forward",
)


def main(argv: Sequence[str]) -> None:
    """Measures --config and its peers."""
    from perceiver_jax import config as configs

    peers = check_peers(PEER.value)
    command_line.config_file()
    config = configs.to_dict(flags.FLAGS.config)
    config["batch_size"] = BATCH_SIZE.value or config["batch_size"]
    config, notes = prepare(config, peers)
    facts = {"machine": measure.machine()}
    print(
        f"{command_line.config_file()}, batch {config['batch_size']}; {measure.describe(facts['machine'])}", flush=True
    )
    results = facts | compare(config, peers, ROUNDS.value, SECONDS.value)
    results |= {"config": config, "rounds": ROUNDS.value, "notes": notes + results["notes"]}
    show(results)
    measure.write_json(JSON.value, results)


def check_peers(peers: Sequence[str]) -> list[str]:
    """The named peers; ConfigError for an unknown one or one whose packages are missing."""
    if unknown := [peer for peer in peers if peer not in PEERS]:
        raise ConfigError(f"--peer={unknown[0]} is unknown: expected some of {', '.join(PEERS)}.")
    measure.require("bench", *dict.fromkeys(package for peer in peers for package in NEEDS.get(peer, ())))
    return list(dict.fromkeys(peers))


def prepare(config: Mapping[str, Any], peers: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The config on random arrays, brought to what all peers can do, and what was changed, a sentence each."""
    from benchmarks.inputs import on_available_data, on_random_arrays
    from perceiver_jax.experiment import build_source

    with tempfile.TemporaryDirectory() as folder:
        available, notes = on_available_data(config, Path(folder))
        config = on_random_arrays(config, build_source(available).spec)
    notes.append("The arrays of the batch are random numbers, always the same batch.")
    if {"hf", "hf_compile"} & set(peers):
        config |= {"ema_decay": 0.0, "micro_batches": 1, "model": config["model"] | {"dropout_rate": 0.0}}
        config["optimizer"] = config["optimizer"] | {"name": "adamw"}
        notes.append(
            "For torch's sake all use AdamW and no dropout, average or micro-batches. A step is forward, backward, "
            "clipping and update; torch's input has its position features already, ours computes them in each pass."
        )
    if "keras" in peers:
        if config["model"]["name"] != "keras_perceiver":
            raise ConfigError("--peer=keras builds the model of configs/cifar100.py alone. Leave it out.")
        config |= {"ema_decay": 0.0, "micro_batches": 1}
        config["optimizer"] = config["optimizer"] | {"name": "adam", "weight_decay": 0.0, "clip_norm": None}
        notes.append("Keras and ours get images of the model's size and use Adam; dropout as in the config.")
    if {"torch", "torch_channels_last"} & set(peers):
        if config["model"]["name"] != "slot_autoencoder":
            raise ConfigError("--peer=torch builds the model of configs/slot_attention.py alone. Leave it out.")
        config |= {"ema_decay": 0.0, "micro_batches": 1}
        notes.append("No average or micro-batches. A step is forward, backward, clipping where the config clips, Adam.")
    return config, notes


def compare(config: Mapping[str, Any], peers: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Measures ours, the peers and the GEMM peak.

    Raises:
        ConfigError: a peer's number of parameters differs from ours by more than `TOLERANCE`.
    """
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(measure.Worker("ours", "benchmarks.jax_steps:JaxSteps", config))
        gemm = stack.enter_context(measure.Worker("GEMM", "benchmarks.gemm:Gemm", config["model"]["dtype"]))
        about = {"ours": ours.call("describe")}
        setup = {**config, "adapted_shape": about["ours"]["adapted_shape"]}
        workers = {"ours": ours}
        for peer in peers:
            argument = setup if peer in ("hf", "hf_compile") else config
            workers[peer] = stack.enter_context(measure.Worker(peer, PEERS[peer], argument))
            about[peer] = workers[peer].call("describe")
            check_peer(peer, about[peer], about["ours"])
        compiled = {name: worker.call("compile") for name, worker in workers.items()}
        bursts = {(name, kind): _burst(worker, kind) for name, worker in workers.items() for kind in KINDS}
        times = measure.interleave({("GEMM", "product"): _burst(gemm, "product")} | bursts, rounds, seconds)
        memory = {name: worker.call("memory") for name, worker in workers.items()}
        gemm_flops = [gemm.call("flops") / taken for taken in times["GEMM"]["product"]]
    flops = about["ours"].pop("flops_per_step")
    return {
        "device": about["ours"]["device"],
        "notes": about["ours"].pop("notes"),
        "gflop_per_step": flops and flops / 1e9,
        "gemm_gflops": measure.spread(gemm_flops, 1e-9),
        "implementations": {
            name: about[name]
            | {"compile_s": compiled[name], "peak_memory_mb": memory[name]}
            | figures(times[name], times["ours"], flops, gemm_flops)
            for name in workers
        },
    }


def check_peer(peer: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """A peer of another size or on another device is no peer; ConfigError."""
    platform = theirs["device"]["platform"], ours["device"]["platform"]
    if platform[0] != platform[1]:
        raise ConfigError(
            f"--peer={peer} runs on {platform[0]}, ours on {platform[1]}. Install its build for this device, or hide "
            "the device from JAX: JAX_PLATFORMS=cpu"
        )
    if abs(theirs["parameters"] - ours["parameters"]) > TOLERANCE * ours["parameters"]:
        raise ConfigError(
            f"--peer={peer} has {theirs['parameters']:,} parameters, ours {ours['parameters']:,}: it cannot build this "
            "config's model. Leave it out."
        )


def figures(times: Mapping, ours: Mapping, flops: float | None, gemm_flops: Sequence[float]) -> dict[str, Any]:
    """Spreads in ms, ratios within the rounds, FLOP/s."""
    numbers = {f"{kind}_ms": measure.spread(times[kind], 1e3) for kind in KINDS}
    numbers["ours_over_this"] = {kind: measure.ratio(ours[kind], times[kind]) for kind in KINDS}
    if flops:
        rates = [flops / taken for taken in times["step"]]
        numbers["gflops"] = measure.spread(rates, 1e-9)
        numbers["share_of_gemm_peak"] = measure.ratio(rates, gemm_flops)
    return numbers


def show(results: Mapping[str, Any]) -> None:
    """Prints the notes and the table."""
    for note in results["notes"]:
        print(note)
    device, gemm = results["device"], results["gemm_gflops"]
    counted = f"{results['gflop_per_step']:.1f} GFLOP a step by formula" if results["gflop_per_step"] else "no formula"
    gemm_peak = f"GEMM {gemm['median']:,.0f} GFLOP/s"
    print(f"{device['count']} x {device['kind']}; {counted}; {gemm_peak}; medians of {results['rounds']} rounds")
    measure.print_table(COLUMNS, [_row(name, it) for name, it in results["implementations"].items()])


def _row(name: str, it: Mapping[str, Any]) -> list[str]:
    def spread(kind: str) -> tuple[str, str]:
        values = it[f"{kind}_ms"]
        return f"{values['median']:,.1f}", f"{values['min']:,.1f} - {values['max']:,.1f}"

    compiled, memory, ratio = it["compile_s"], it["peak_memory_mb"], it["ours_over_this"]
    return [
        name,
        f"{it['parameters']:,}",
        f"{compiled['step']:.1f}" if compiled["step"] else "-",
        *spread("step"),
        *spread("forward"),
        f"{it['gflops']['median']:,.0f}" if "gflops" in it else "-",
        f"{100 * it['share_of_gemm_peak']:.0f} %" if "gflops" in it else "-",
        f"{memory['process']:,.0f}" + (f" + {memory['device']:,.0f}" if memory["device"] else ""),
        f"{ratio['step']:.2f}",
        f"{ratio['forward']:.2f}",
    ]


def _burst(worker: measure.Worker, kind: str):
    return lambda count: worker.call("burst", kind, count)


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main, tune_process=True)


if __name__ == "__main__":
    run()
