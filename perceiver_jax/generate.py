# SPDX-License-Identifier: Apache-2.0
"""Make new images: `python -m perceiver_jax.generate --workdir=RUN --num=8 [--temperature=1.0 --seed=0]`.

RUN is one of configs/svq_prior.py, and all that is needed. RUN/generated/CHECKPOINT-.../ gets `generated.png`, and
`codes.csv` and `codes.json` with the codes of each image and what it takes to make it again: image i follows from the
seed and i, whatever --num is.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line

WORKDIR = flags.DEFINE_string("workdir", "", "run folder; default the newest under runs/")
NUM = flags.DEFINE_integer("num", 8, "images")
TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "of the codes; near 0 takes the likeliest")
TOP_K = flags.DEFINE_integer("top_k", None, "draw from so many of the likeliest codes only")
TOP_P = flags.DEFINE_float("top_p", None, "draw from the fewest likeliest codes that have this probability together")
SEED = flags.DEFINE_integer("seed", 0, "of all images", lower_bound=0, upper_bound=2**31 - 1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "images made at a time", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
OUTPUT_DIR = flags.DEFINE_string("output_dir", "", "where the files go; default a folder in RUN/generated/")


def main(argv: Sequence[str]) -> None:
    """Generates, and writes what was made and how."""
    from perceiver_jax import generation
    from perceiver_jax.reports import generated
    from perceiver_jax.run_folder import chosen

    how = {"temperature": TEMPERATURE.value, "top_k": TOP_K.value, "top_p": TOP_P.value, "seed": SEED.value}
    generation.check(NUM.value, *(how[name] for name in ("temperature", "top_k", "top_p")))
    workdir = Path(chosen(WORKDIR.value))
    generator = generation.Generator.from_run(workdir, CHECKPOINT.value)
    made = generator.generate(NUM.value, **how, batch_size=BATCH_SIZE.value)
    step = generator.run.step
    folder = Path(OUTPUT_DIR.value) if OUTPUT_DIR.value else workdir / "generated" / generation.folder_name(step, how)
    record = {"run": str(workdir), "step": step, **how, "batch_size": BATCH_SIZE.value}
    for file in generated.write(folder.absolute(), made.images, made.codes, record):
        print(f"written: {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")


def run() -> None:
    """The command."""
    command_line.run(main)


if __name__ == "__main__":
    run()
