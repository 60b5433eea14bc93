# SPDX-License-Identifier: Apache-2.0
"""The JobSet manifest against the published schema, and the commands of kubectl and xpk; no cluster is asked."""

import copy
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from launch.gke.jobset import jobset, main, parse
from launch.pod import SENT

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((Path(__file__).parent / "jobset_schema.json").read_text())
KIND = ["--image=gcr.io/p/image:1", "--accelerator=tpu-v5-lite-podslice", "--topology=4x4", "--claim=runs"]
XPK = ["--image=gcr.io/p/image:1", "--cluster=c", "--tpu-type=v5litepod-16"]
RUN = ["--", "--config=configs/solids.py:tiny", "--workdir=/runs/a b"]
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
# From `xpk workload create --help`: src/xpk/parser/workload.py and common.py of AI-Hypercomputer/xpk.
XPK_FLAGS = (
    "command tpu-type device-type num-nodes scheduler debug-dump-gcs deploy-stacktrace-sidecar on-demand reservation "
    "spot workload cluster docker-name num-slices priority max-restarts ttl-seconds-after-finished enable-debug-logs "
    "termination-grace-period-seconds restart-on-user-code-failure ramdisk-directory env-file env base-docker-image "
    "script-dir docker-image project zone dry-run"
)


def problems(value, schema, where=""):
    """What in a value is not as its schema says; a name that the schema does not have is one."""
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r}"]
    kind = TYPES.get(schema.get("type"))
    if kind and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return [f"{where}: {value!r}"]
    found = [f"{where}.{name} is missing" for name in schema.get("required", []) if name not in value]
    if kind is dict:
        known = schema.get("properties", {})
        for name, inner in value.items():
            if name not in known and "additionalProperties" not in schema:
                found.append(f"{where}.{name} is unknown")
            found += problems(inner, known.get(name) or schema.get("additionalProperties", {}), f"{where}.{name}")
    elif kind is list:
        for inner in value:
            found += problems(inner, schema.get("items", {}), f"{where}[]")
    return found


def manifest(*flags):
    return jobset(*parse(["submit", "--name=run", *KIND, *flags, *RUN]))


def pod(document):
    return document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda d: d["spec"].update(replicas=2), ".spec.replicas is unknown"),
        (lambda d: d["spec"]["failurePolicy"]["rules"][0].pop("name"), ".spec.failurePolicy.rules[].name is missing"),
        (lambda d: d["spec"]["failurePolicy"].update(maxRestarts="4"), "maxRestarts: '4' is no integer"),
        (lambda d: pod(d).update(restartPolicy="Always"), "restartPolicy: 'Always'"),
        (lambda d: pod(d)["nodeSelector"].update(spot=True), "spot: True is no string"),
        (lambda d: d["metadata"].update(name="My_Run"), ".metadata.name: 'My_Run'"),
    ],
)
def test_the_check_sees(break_it, problem):
    document = copy.deepcopy(manifest())
    assert problems(document, SCHEMA) == []
    break_it(document)
    (found,) = problems(document, SCHEMA)
    assert problem in found


def test_slices_machines_and_restarts():
    document = manifest("--hosts=4", "--slices=2", "--spot", "--restarts=7")
    assert problems(document, SCHEMA) == []
    (slices,) = document["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert (slices["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 4, 4, 0)
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = pod(document)["containers"]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [1, 78]}
    assert document["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert container["command"] == ["python", "-u", "-m", "perceiver_jax.main", *RUN[1:]]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod(document)["volumes"]
    }
    assert pod(document)["nodeSelector"]["cloud.google.com/gke-spot"] == "true"


def test_a_dry_run_prints_manifest_and_command(capsys):
    assert main(["submit", "--name=run", *KIND, "--dry-run", *RUN]) == 0
    printed, command = capsys.readouterr().out.split("---\n")
    assert yaml.safe_load(printed) == manifest()
    assert command.strip() == "kubectl apply --namespace=default --filename=-"


def test_xpk(capsys):
    assert main(["xpk", "--name=run", *XPK, "--slices=2", "--dry-run", *RUN]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[:3] == ["xpk", "workload", "create"]
    assert {word[2:].partition("=")[0] for word in words[3:]} <= set(XPK_FLAGS.split())
    assert "--num-slices=2" in words and shlex.split(words[-1].removeprefix("--command="))[-1] == RUN[-1]


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("status", "kubectl get jobsets,pods --namespace=default --selector=app=run"),
        (
            "logs",
            "kubectl logs --namespace=default --follow --tail=-1 --selector=jobset.sigs.k8s.io/jobset-name=run,"
            "jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0",
        ),
        ("delete", "kubectl delete jobset run --namespace=default"),
    ],
)
def test_other_actions(action, command, capsys):
    assert main([action, "--name=run", "--dry-run"]) == 0
    assert capsys.readouterr().out.strip() == command


def image():
    """The steps of the Dockerfile, FROM, COPY, ...: a list of lines each; the comments in ""."""
    text = (ROOT / "launch" / "gke" / "Dockerfile").read_text()
    steps = {"": re.findall("#.*", text)}
    for line in re.sub(r"\\\n|#.*", "", text).split("\n"):
        name, _, rest = line.partition(" ")
        steps[name] = [*steps.get(name, []), rest]
    return steps


def pip_installs(lines):
    """The words after `pip install` in lines of a shell."""
    found = [part for line in lines for part in re.split("&&|\n", line) if " -m pip install " in part]
    return [shlex.split(part.partition(" -m pip install ")[2]) for part in found]


def test_the_image_has_what_a_tpu_machine_gets():
    copied = [line.split() for line in image()["COPY"]]
    assert sorted(source for source, _ in copied) == sorted(SENT)
    assert all((ROOT / source).exists() and target in ("./", source) for source, target in copied)
    on_machine = pip_installs([(ROOT / "launch" / "tpu_worker.sh").read_text()])
    in_image = pip_installs(line.replace("--no-cache-dir ", "").replace("${JAX}", "tpu") for line in image()["RUN"])
    assert in_image == on_machine and len(in_image) == 2


def test_the_image_is_of_a_python_and_a_jax_that_are_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (base,) = image()["FROM"]
    assert int(re.fullmatch(r"python:3\.(\d+)-slim", base)[1]) >= int(project["requires-python"].removeprefix(">=3."))
    named = re.findall(r"JAX=(\w+)", " ".join([*image()["ARG"], *image()[""]]))
    assert set(named) == {"tpu", "cuda13"} <= set(project["optional-dependencies"])


def test_what_is_missing_is_said(capsys):
    with pytest.raises(SystemExit, match="78"):
        main(["submit", "--name=run", "--image=i", *RUN])
    assert "expected --accelerator, --topology, --claim, got none" in capsys.readouterr().err
