# SPDX-License-Identifier: Apache-2.0
"""Does it fit a TPU slice? `python -m perceiver_jax.compile --config=configs/imagenet.py --topology=v5e:16x16`.

Compiles the training step for TPUs that are not here, on the CPU (extra `tpu`), and prints what each would
need: memory, FLOPs, and what the devices tell each other. Exit 78 where memory does not suffice. No data is read
where the config's file says in `STAND_INS` what they are like.
"""

import json
import os
import runpy
from collections.abc import Sequence

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x4", "the slice: GENERATION:SHAPE, e.g. v5e:16x16 or v5p:2x2x2")
SLICES = flags.DEFINE_integer("slices", 1, "how many of it, joined by the network of the data centre", lower_bound=1)
JSON = flags.DEFINE_bool("json", False, "print JSON")
STAND_INS = "STAND_INS"
"""In a config file: name of a data section -> what stands in for the data it describes."""
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",  # nor ask any other machine what this one is
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU that it could hold alone
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
"""Before JAX is imported: libtpu is to compile, and to look for no TPU."""


def main(argv: Sequence[str]) -> None:
    """Compiles and prints."""
    from perceiver_jax import config as configs
    from perceiver_jax import experiment, stages
    from perceiver_jax.reports.compiled import print_compiled
    from perceiver_jax.training import ahead

    file = command_line.config_file()
    devices = ahead.topology_devices(TOPOLOGY.value, SLICES.value)
    config = stages.resolve(configs.to_dict(flags.FLAGS.config))
    training = experiment.build(config, source=stand_in(file, config["data"]), devices=devices)
    topology = TOPOLOGY.value if SLICES.value == 1 else f"{SLICES.value} x {TOPOLOGY.value}"
    compiled = ahead.compile_step(training, experiment.abstract_training_state(training), topology)
    facts = json.loads(json.dumps(ahead.facts(compiled)))
    if JSON.value:
        print(json.dumps(facts, indent=1))
    else:
        print_compiled(facts)
    if compiled.memory is None:
        raise ConfigError(
            f"a step does not fit into the memory of {compiled.chip}: it needs {compiled.overflow}. "
            f"{command_line.LESS_MEMORY} Or take a larger slice, or split the state: --config.mesh.fsdp=N."
        )


def stand_in(file: str, data: dict):
    """What the config's file says of the data, None where it says nothing."""
    described = runpy.run_path(file.partition(":")[0]).get(STAND_INS, {})
    return described[data["name"]](data) if data["name"] in described else None


def run() -> None:
    """The command."""
    os.environ.update(ENVIRONMENT)
    command_line.define_config()
    command_line.run(main)


if __name__ == "__main__":
    run()
