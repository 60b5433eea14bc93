# SPDX-License-Identifier: Apache-2.0
"""The model card of an export, in Markdown: what the run recorded, and the code that loads its files."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_jax.data.inputs import kind
from perceiver_jax.data.spec import Spec
from perceiver_jax.weights import portable

ADDRESS = "https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees"
INPUTS = {
    "points": "Clouds, normalised as `normalize_before` and `normalize` of the data below say.",
    "image": "Images with channels last, in the units of the data set (`uint8` is 0 to 255), resized to this shape "
    "and, where the data below name a permutation, permuted; the model normalises by mean and deviation itself.",
    "sequence": "Sequences, padded with zeros; channels standardised where mean and deviation are given below.",
    "tokens": "UTF-8 bytes plus 6, padded with zeros.",
    "array": "Arrays as the data set gives them.",
}
"""What was done to an input before the model sees it, by kind."""
MOST_NAMES = 100


def model_card(run: Any, record: Mapping[str, Any], results: Sequence[Mapping[str, Any]], difference: float) -> str:
    """The card.

    Args:
        run: an `experiment.Run`.
        record: its `run.json`.
        results: of evaluations of this checkpoint, as `results.json` holds them.
        difference: of the round trip.
    """
    name, names = run.workdir.name, run.spec.class_names
    parts = {
        "": f"# {name}\n\nA classifier of {len(names)} classes with {record['num_parameters']:,} parameters: the "
        f"checkpoint of step {run.step} of the run `{name}`, exported by perceiver_jax.",
        "How to load it": _loading(run.spec),
        "Inputs": _inputs(run.spec),
        "Classes": _listed(names),
        "Results": _results(results),
        "Data": _data(run, record),
        "Training": _training(run, record),
        "Files": _files(difference),
        "Licence": "perceiver_jax is Apache-2.0. The run does not record the licence of its data, which may bind what "
        "was learned from them: look it up before you pass this model on.",
    }
    return "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in parts.items()) + "\n"


def _loading(spec: Spec) -> str:
    batch = "\n".join(
        f'    "{name}": np.{_filled(name)}((2, {_sizes(array.shape)}), "{array.dtype}"),'
        for name, array in spec.arrays.items()
        if name != "label"
    )
    return f"""With JAX and safetensors alone, in this folder:

```python
from pathlib import Path

import jax.export
import numpy as np
from safetensors.numpy import load_file

weights = load_file("{portable.WEIGHTS}")
model = jax.export.deserialize(bytearray(Path("{portable.FUNCTION}").read_bytes()))
batch = {{  # any number of rows; prepared as "Inputs" says
{batch}
}}
probabilities = np.asarray(model.call(weights, batch)["probabilities"])
print(probabilities.shape, probabilities.argmax(axis=1))
```

With perceiver_jax and the run folder, which prepares the inputs by itself:
`Predictor.from_run(RUN)(inputs)` of `perceiver_jax.prediction`, or `python -m perceiver_jax.predict`."""


def _filled(name: str) -> str:
    return "ones" if name == "mask" else "zeros"


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def _inputs(spec: Spec) -> str:
    rows = [
        f"| `{name}` | (batch, {_sizes(array.shape)}) | {array.dtype} |"
        for name, array in spec.arrays.items()
        if name != "label"
    ]
    notes = [INPUTS[kind(spec)]]
    if "mask" in spec.arrays:
        notes.append("`mask` is 1 (true) for what is real and 0 for padding.")
    if spec.mean:
        statistics = {name: np.round(getattr(spec, name), 6).tolist() for name in ("mean", "std")}
        notes.append(f"Mean and deviation of the channels in the training split: `{json.dumps(statistics)}`.")
    return "\n".join(["| array | shape | type |", "|---|---|---|", *rows, "", " ".join(notes)])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{index} {name}" for index, name in enumerate(names[:MOST_NAMES]))
    return shown + (f" and {len(names) - MOST_NAMES} more, in the run's `run.json`" if len(names) > MOST_NAMES else "")


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "This checkpoint was not evaluated on a whole split: `python -m perceiver_jax.evaluate` does that."
    rows = [f"| {found['split']} | {found['num_examples']:,} | {_metrics(found)} |" for found in results]
    return "\n".join(["| split | examples | metrics |", "|---|---|---|", *rows])


def _metrics(found: Mapping[str, Any]) -> str:
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    shown = {k: f"{100 * v:.2f} %" if k.endswith("accuracy") else f"{v:.4f}" for k, v in numbers.items()}
    return ", ".join(f"{name} {text}" for name, text in shown.items())


def _data(run: Any, record: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in record["num_examples"].items())
    return f"{sizes} examples.\n\n{_json(run.config['data'])}"


def _training(run: Any, record: Mapping[str, Any]) -> str:
    device, versions = record["devices"], record["versions"]
    facts = [
        f"`{record['command']}`",
        f"Code: commit `{record['git'] or 'unknown'}`; Python {record['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if name in ("jax", "flax", "optax")),
        f"Device: {device['count']} x {device['kind']} ({record['processor'] or record['machine']})",
        f"{record['num_steps']:,} steps of {run.config['batch_size']} examples; seed {run.config['seed']}",
    ]
    sections = {key: run.config[key] for key in ("model", "task", "optimizer", "schedule")}
    return "\n".join(f"- {fact}" for fact in facts) + f"\n\n{_json(sections)}\n\nAll values: `config.json`."


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1)}\n```"


def _files(difference: float) -> str:
    return (
        f"- `{portable.WEIGHTS}`: the weights that evaluation uses, by path.\n"
        f"- `{portable.FUNCTION}`: the function of weights and batch, serialized by `jax.export` for "
        f"{', '.join(portable.PLATFORMS)}; `model.mlir_module()` shows its StableHLO. Newer versions of JAX read it as "
        f"long as [they promise]({ADDRESS}).\n"
        f"- `config.json`: the run's config.\n\n"
        f"When they were written, both files were read back and gave the run's probabilities within {difference:.1e}."
    )
