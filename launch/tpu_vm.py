# SPDX-License-Identifier: Apache-2.0
"""One run on TPU machines of Google Cloud: asked for, waited for, set up, run on all workers, asked for again.

    python launch/tpu_vm.py train --name=N --zone=Z --accelerator-type=v5litepod-16 --spot -- --config=C --workdir=DIR

`train` does all of it until the run is done: where the TPU was taken away (SUSPENDED) or did not come (FAILED), it is
deleted, asked for again, and the run goes on; four tries in a row that bring it no further end it, waiting in the queue
apart. SIGTERM and Ctrl-C let the run save. The same command goes on. DIR has to be one folder for all workers, also new
ones: mount it with --prepare. Each step is there by itself too; --dry-run prints the commands of gcloud and runs none.
Nothing but `delete`, and `train --delete`, ends the costs.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from launch.gcloud import CommandFailed, QueuedTpu, Terminal  # noqa: E402 (as in local.py)
from launch.pod import Pod, say, still_stands  # noqa: E402
from launch.supervisor import AGAIN, RESTARTS, WRONG, Command, Supervisor  # noqa: E402

ACTIONS = {
    "train": "all of it, again and again until the run is done",
    "attempt": "all of it once: create, wait, setup, run",
    "create": "ask for the TPU, unless it is there",
    "wait": "until it is there",
    "setup": "copy the last commit to all workers and install what it needs",
    "run": "the command on all workers, shown as it goes; joins one that is running",
    "status": "the state of the request, and of the run on each worker",
    "logs": "what worker 0 of slice 0 has printed",
    "stop": "SIGTERM to the run on all workers: they save and end with 75",
    "delete": "the TPU with its disks, and the request",
}


def main(argv: Sequence[str]) -> int:
    """The exit code of the action."""
    options, arguments = parse(argv)
    if problem := wrong(options, arguments):
        say(problem)
        return WRONG
    tpu = QueuedTpu(**{key: value for key, value in vars(options).items() if key in QueuedTpu.__dataclass_fields__})
    if options.action == "train" and not options.dry_run:
        code = train(argv, options)
        if code or not options.delete:
            say(still_stands(tpu))
        return code
    pod = Pod(tpu, Terminal(options.dry_run), poll=options.poll, prepare=options.prepare)
    try:
        return act(pod, options, arguments)
    except (CommandFailed, FileNotFoundError) as error:
        say(str(error))
        return AGAIN if isinstance(error, CommandFailed) else WRONG


def act(pod: Pod, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Does one action; its exit code."""
    match options.action:
        case "attempt" | "train":
            return attempt(pod, options, arguments)
        case "wait":
            return pod.wait()
        case "run":
            return pod.run(arguments)
        case "status":
            pod.status()
        case "stop":
            pod.stop()
        case "logs":
            pod.logs(options.lines)
        case "create":
            pod.create()
        case "setup":
            pod.setup()
        case "delete":
            pod.delete()
    return 0


def attempt(pod: Pod, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """From the request to the end of the run, once."""
    if code := pod.reach():
        return code
    pod.setup()
    newest = pod.progress(workdir_of(arguments))
    if options.progress:
        Path(options.progress).write_text(newest)
    code = pod.run(arguments)
    if code == 0 and options.delete:
        pod.delete()
    return code


def train(argv: Sequence[str], options: argparse.Namespace) -> int:
    """Attempts, each a process of its own, until one ends well or another is not worth it.

    How far the run has come is known only while there is a TPU, so it is looked up at the start of an attempt: one
    that was not in vain is seen as such at the start of the next.
    """
    with tempfile.TemporaryDirectory() as folder:
        newest = Path(folder) / "newest"
        newest.touch()
        again = [sys.executable, "-u", __file__, "attempt", f"--progress={newest}", *argv[1:]]
        with Supervisor(restarts=options.restarts, pause=options.pause) as supervisor:
            return supervisor.run(lambda: [Command(options.name, again, os.environ)], newest.read_text)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and the arguments of the training command."""
    words = "\n".join(f"  {name:8} {what}" for name, what in ACTIONS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nactions:\n{words}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("action", choices=ACTIONS, metavar="ACTION")
    add("--name", required=True, help="of the queued resource and its nodes")
    add("--zone", required=True)
    add("--project", default="", help="default: that of gcloud")
    add("--accelerator-type", default="", help="such as v5litepod-16; what to create needs it")
    add("--runtime-version", default="tpu-ubuntu2204-base", help="the image of the machines; default %(default)s")
    add("--node-count", type=int, default=1, help="slices; more than one is multislice")
    add("--spot", action="store_true", help="cheap, and taken away at any time")
    add("--create-flag", dest="create_flags", action="append", default=[], help="another flag of create; repeatable")
    add("--connect-flag", dest="connect_flags", action="append", default=[], help="another flag of ssh and scp")
    add("--prepare", default="", help="shell command for every worker before the set-up, once a machine; a mount")
    add("--delete", action="store_true", help="delete the TPU when the run is done")
    add("--restarts", type=int, default=RESTARTS, help="how many in a row may be without progress")
    add("--pause", type=float, default=10.0, help="seconds before the first of them; doubles each time")
    add("--poll", type=float, default=30.0, help="seconds between two looks at the state")
    add("--lines", type=int, default=100, help="how many logs shows")
    add("--progress", default="", help="a file: where attempt writes how far the run had come")
    add("--dry-run", action="store_true", help="print the commands only")
    cut = list(argv).index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), list(argv[cut + 1 :])


def wrong(options: argparse.Namespace, arguments: Sequence[str]) -> str:
    """What is missing; "" if nothing is."""
    if options.action in ("train", "attempt", "create") and not options.accelerator_type:
        return f"{options.action}: expected --accelerator-type, got none. Give one, such as v5litepod-16."
    if options.action in ("train", "attempt", "run") and not workdir_of(arguments):
        return f"{options.action}: expected -- --config=C --workdir=DIR, got {shlex.join(arguments)!r}. Give both."
    return ""


def workdir_of(arguments: Sequence[str]) -> str:
    """The run folder that the training command names."""
    return next((word.partition("=")[2] for word in arguments if word.startswith("--workdir=")), "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
