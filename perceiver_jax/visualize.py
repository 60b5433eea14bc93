# SPDX-License-Identifier: Apache-2.0
"""Look at a run: `python -m perceiver_jax.visualize WHAT [--workdir=RUN] [--format=png,svg,pdf]`.

Pictures go to RUN/figures/. Without --workdir the newest run under runs/ is taken. It needs neither the data set nor a
network, but for `slots` and `svq`, which ask the model about images of the data. `selftest` needs no run either: it
draws every kind of figure into WORKDIR/figures/.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError
from perceiver_jax.figures.attention import COLORMAPS

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default the newest under runs/")
flags.DEFINE_alias("logs_dir", "workdir")
flags.DEFINE_alias("output_dir", "workdir")
FORMAT = flags.DEFINE_list("format", ["png"], "files of each figure: png, svg, pdf")
EXPERIMENT_NAME = flags.DEFINE_string("experiment_name", "", "results: its title; default the run folder's name")
EPOCHS = flags.DEFINE_list("epochs", [], "results: epochs to mark and compare, e.g. 1,10,20")
ENHANCED = flags.DEFINE_bool("enhanced_attention", False, "results: also how attention evolved")
SERVE = flags.DEFINE_bool("serve", False, "demo: serve the page on this machine; it follows a running training")
PORT = flags.DEFINE_integer("port", 8000, "demo: of --serve; 0 takes a free one", lower_bound=0, upper_bound=65535)

COLORMAP = flags.DEFINE_string(
    "colormap", "viridis", "attention: " + "; ".join(f"{name} ({use})" for name, use in COLORMAPS.items())
)
ALPHA = flags.DEFINE_float("alpha", 0.7, "attention: opacity of overlays, 0 to 1")
EVOLUTION = flags.DEFINE_bool("create_evolution", False, "attention: also how maps evolve over epochs")
STAGE = flags.DEFINE_integer("stage", None, "attention: of this cross-attend, from 1; default all")
HEAD = flags.DEFINE_integer("head", None, "attention: of this head, from 1; default all, fused")
FUSION = flags.DEFINE_enum("fusion", "mean", ["mean", "max", "min"], "attention: how heads are fused")
ROLLOUT = flags.DEFINE_bool("rollout", False, "attention: rolled out through the latents' layers to the input")
STEP = flags.DEFINE_integer("step", None, "attention: after this step; default all there are")
EPOCH = flags.DEFINE_float("epoch", None, "attention: after this epoch; default all there are")

NUM = flags.DEFINE_integer("num", 4, "slots: images", lower_bound=1)
NUM_SLOTS = flags.DEFINE_integer("num_slots", None, "slots: how many; default the run's", lower_bound=1)
NUM_ITERATIONS = flags.DEFINE_integer("num_iterations", None, "slots: iterations; default the run's", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "slots, svq: best, latest or a step")
DATA_PATH = flags.DEFINE_string("data_path", "", "slots, svq: where the data lies, if not where the run found it")

SELFTEST = "selftest"
WHAT: dict[str, str] = {
    "attention": "perceiver_jax.reports.attention_report",
    "results": "perceiver_jax.reports.dashboard",
    "demo": "perceiver_jax.reports.demo",
    "slots": "perceiver_jax.reports.slots",
    "svq": "perceiver_jax.reports.codes",
    SELFTEST: "perceiver_jax.reports.selftest",
}
"""What can be looked at -> the module whose `write(run, formats, flags)` returns the files it wrote."""
OF_MODEL = ("slots", "svq")
"""What asks the model: `run` is what `experiment.load` gives instead of the folder."""


def main(argv: Sequence[str]) -> None:
    """Writes the figures that the first word asks for."""
    from perceiver_jax.figures.canvas import check_formats
    from perceiver_jax.run_folder import chosen

    if len(argv) != 2 or argv[1] not in WHAT:
        raise ConfigError(f"visualize {' '.join(argv[1:])!r}: expected one of {', '.join(WHAT)}.")
    check_formats(FORMAT.value)
    write = importlib.import_module(WHAT[argv[1]]).write
    folder = Path(WORKDIR.value or SELFTEST) if argv[1] == SELFTEST else chosen(WORKDIR.value)
    run = _loaded(folder) if argv[1] in OF_MODEL else folder
    for file in write(run, tuple(FORMAT.value), flags.FLAGS):
        print(f"written: {_shown(file)}")


def _loaded(folder: Path):
    from perceiver_jax import experiment

    run = experiment.load(folder, CHECKPOINT.value, data_path=DATA_PATH.value, mesh=experiment.run_mesh(folder))
    return run.changed(num_slots=NUM_SLOTS.value, num_iterations=NUM_ITERATIONS.value)


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def run() -> None:
    """The command."""
    command_line.run(main, words=True)


if __name__ == "__main__":
    run()
