# SPDX-License-Identifier: Apache-2.0
r"""One run on TPU slices of a GKE cluster, as a JobSet.

    python launch/gke/jobset.py submit --name=N --image=IMAGE --accelerator=tpu-v5-lite-podslice --topology=4x4 \
        --hosts=4 --claim=CLAIM -- --config=C --workdir=/runs/N

The cluster needs node pools of these slices, JobSet, and a volume that many nodes write to (--claim, mounted at /runs).
The image (launch/gke/Dockerfile) holds a checkout with its environment. `xpk` gives the same to a cluster that xpk
made. SIGTERM lets a run save; 75 and the death of a pod start all pods again, 78 and 1 end it. --dry-run prints the
manifest and the commands.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import yaml

ACTIONS = {
    "submit": "apply the manifest; the same name again after delete goes on with the run",
    "xpk": "the same by `xpk workload create`",
    "status": "the JobSet and its pods",
    "logs": "what worker 0 of slice 0 prints",
    "delete": "the JobSet with its pods; they save first",
}
NEVER_AGAIN = [1, 78]
"""Exit codes that another start does not mend: a bug, wrong config or data."""
SAVE_SECONDS = 300
"""How long a pod that was told to stop has to save."""
CHIPS = 4
"""Of a machine, in a slice of several machines."""
JOB = "slice"


def main(argv: Sequence[str]) -> int:
    """The exit code of the command."""
    options, arguments = parse(argv)
    manifest = yaml.safe_dump(jobset(options, arguments), sort_keys=False) if options.action == "submit" else ""
    command = commands(options, arguments)
    if options.dry_run:
        print(f"{manifest}{'---' if manifest else ''}\n{shlex.join(command)}".strip())
        return 0
    return subprocess.run(command, input=manifest or None, text=True).returncode


def commands(options: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """The command of an action."""
    space = f"--namespace={options.namespace}"
    match options.action:
        case "submit":
            return ["kubectl", "apply", space, "--filename=-"]
        case "xpk":
            return xpk(options, arguments)
        case "status":
            return ["kubectl", "get", "jobsets,pods", space, f"--selector=app={options.name}"]
        case "logs":
            return ["kubectl", "logs", space, "--follow", "--tail=-1", f"--selector={first_pod(options.name)}"]
    return ["kubectl", "delete", "jobset", options.name, space]


def first_pod(name: str) -> str:
    """Labels of the pod with process 0, which alone prints: machine 0 of slice 0."""
    labels = {
        "jobset.sigs.k8s.io/jobset-name": name,
        "jobset.sigs.k8s.io/job-index": "0",
        "batch.kubernetes.io/job-completion-index": "0",
    }
    return ",".join(f"{label}={value}" for label, value in labels.items())


def training(arguments: Sequence[str]) -> list[str]:
    """What a pod runs."""
    return ["python", "-u", "-m", "perceiver_jax.main", *arguments]


def xpk(options: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """Of xpk's flags those of `workload create` in its repository, AI-Hypercomputer/xpk."""
    return [
        "xpk",
        "workload",
        "create",
        f"--cluster={options.cluster}",
        f"--workload={options.name}",
        f"--tpu-type={options.tpu_type}",
        f"--num-slices={options.slices}",
        f"--docker-image={options.image}",
        f"--max-restarts={options.restarts}",
        "--restart-on-user-code-failure",
        f"--termination-grace-period-seconds={SAVE_SECONDS}",
        f"--command={shlex.join(training(arguments))}",
    ]


def jobset(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """The manifest: one job a slice, one pod a machine of it; all of them start again together."""
    labels = {"app": options.name}
    job = {
        "parallelism": options.hosts,
        "completions": options.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "train", "operator": "In", "values": NEVER_AGAIN},
                }
            ]
        },
        "template": {"metadata": {"labels": labels}, "spec": pod(options, arguments)},
    }
    refused = {"name": "wrong", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    replicated = {"name": JOB, "replicas": options.slices, "template": {"spec": job}}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": options.name,
            "labels": labels,
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": options.restarts, "rules": [refused]},
            "replicatedJobs": [replicated],
        },
    }


def pod(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """One machine of a slice. GKE tells it its place in TPU_WORKER_ID, TPU_WORKER_HOSTNAMES and MEGASCALE_*."""
    spot = {"cloud.google.com/gke-spot": "true"} if options.spot else {}
    return {
        "restartPolicy": "Never",
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "terminationGracePeriodSeconds": SAVE_SECONDS,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": options.accelerator,
            "cloud.google.com/gke-tpu-topology": options.topology,
            **spot,
        },
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists"}],
        "containers": [
            {
                "name": "train",
                "image": options.image,
                "command": training(arguments),
                "resources": {"limits": {"google.com/tpu": options.chips}},
                "volumeMounts": [{"name": "runs", "mountPath": "/runs"}],
            }
        ],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}}],
    }


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and the arguments of the training command."""
    words = "\n".join(f"  {name:8} {what}" for name, what in ACTIONS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nactions:\n{words}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=ACTIONS, metavar="ACTION")
    add("--name", required=True, help="of the JobSet")
    add("--namespace", default="default")
    add("--image", help="with a checkout as its folder, and its environment on the PATH")
    add("--accelerator", help="label of the node pool, such as tpu-v5-lite-podslice")
    add("--topology", help="of a slice, such as 4x4")
    add("--hosts", type=int, default=1, help="machines of a slice")
    add("--chips", type=int, default=CHIPS, help="of a machine; default %(default)s")
    add("--slices", type=int, default=1, help="more than one is multislice")
    add("--spot", action="store_true", help="nodes that may be taken away")
    add("--claim", help="persistent volume claim, mounted at /runs")
    add("--restarts", type=int, default=50, help="how many in all, with and without progress; default %(default)s")
    add("--cluster", help="of xpk")
    add("--tpu-type", help="of xpk, such as v5litepod-16")
    add("--dry-run", action="store_true", help="print the manifest and the command only")
    cut = list(argv).index("--") if "--" in argv else len(argv)
    options, arguments = parser.parse_args(argv[:cut]), list(argv[cut + 1 :])
    needed = {"submit": ("image", "accelerator", "topology", "claim"), "xpk": ("image", "cluster", "tpu_type")}
    if missing := [name for name in needed.get(options.action, ()) if not getattr(options, name)]:
        names = ", ".join("--" + name.replace("_", "-") for name in missing)
        parser.exit(78, f"jobset.py: {options.action}: expected {names}, got none. Give them.\n")
    return options, arguments


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
