# SPDX-License-Identifier: Apache-2.0
"""One run on TPU machines of Google Cloud: asked for, waited for, set up, run on all workers, asked for again.

    python launch/tpu_vm.py train --name=N --zone=Z --accelerator-type=v5litepod-16 --spot -- --config=C --workdir=DIR

`train` does all of it until the run is done: where the TPU was taken away (SUSPENDED) or did not come (FAILED), it is
deleted, asked for again, and the run goes on; four tries in a row that bring it no further end it. SIGTERM and Ctrl-C
let the run save. The same command goes on. DIR has to be one folder for all workers, also new ones: mount it
with --prepare. Each step is there by itself too; --dry-run prints the commands of gcloud and runs none.
Nothing but `delete`, and `train --delete`, ends the costs.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from launch.gcloud import ABSENT, GONE, CommandFailed, QueuedTpu, Terminal  # noqa: E402 (as in local.py)
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
WORKER = "bash perceiver_jax/launch/tpu_worker.sh"
ARCHIVE = "perceiver_jax.tar.gz"
SENT = ("launch", "perceiver_jax", "configs", "requirements.txt")
UNPACK = (
    "{ pgrep -F perceiver_jax/.worker/pid >/dev/null 2>&1 || "
    "{ rm -rf perceiver_jax/perceiver_jax perceiver_jax/configs && mkdir -p perceiver_jax && "
    f"tar -xzf {ARCHIVE} -C perceiver_jax; }}; }}"
)
"""Nothing is changed under a run that goes on."""


class Pod:
    """What can be done with a TPU; SIGTERM and Ctrl-C, once it is made, are passed on to the run."""

    def __init__(self, tpu: QueuedTpu, terminal: Terminal, *, poll: float, prepare: str = ""):
        """Args:
        poll: seconds between two looks at the state.
        prepare: a shell command for all workers before the set-up.
        """
        self._tpu, self._terminal, self._poll, self._prepare = tpu, terminal, poll, prepare
        self._asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())

    def state(self) -> str:
        """Of the request, as Google calls it; `ABSENT` where there is none."""
        found = self._terminal.read(self._tpu.describe(), absent="NOT_FOUND")
        return ABSENT if found is None else found

    def create(self) -> None:
        """Asks for the TPU, again where the last request came to nothing."""
        state = self.state()
        if state in ("FAILED", "SUSPENDED"):
            _say(f"{self._tpu.name} is {state}: deleted, and asked for again")
            self.delete()
        if state in ("", *GONE):
            self._terminal.run(self._tpu.create())

    def wait(self) -> int:
        """0 as soon as the TPU is there; 75 where it will not come, or a signal came first."""
        state, before = self.state(), None
        while state not in ("", "ACTIVE", *GONE) and not self._asked.is_set():
            if state != before:
                _say(f"{self._tpu.name} is {state}")
            before = state
            self._asked.wait(self._poll)
            state = self.state()
        _say(f"{self._tpu.name} is {state or 'not looked at'}")
        return AGAIN if state in GONE or self._asked.is_set() else 0

    def setup(self) -> None:
        """The last commit and its pinned environment, on all workers."""
        with tempfile.TemporaryDirectory() as folder:
            archive = str(Path("FOLDER" if self._terminal.dry_run else folder) / ARCHIVE)
            git = ["git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={archive}", "HEAD", *SENT]
            self._terminal.run(git)
            self._terminal.run(self._tpu.scp(archive, ARCHIVE))
        self.on_all(" && ".join(filter(None, [self._prepare, UNPACK, f"{WORKER} setup"])))

    def run(self, arguments: Sequence[str]) -> int:
        """The exit code of the run; 75 where the TPU was lost."""
        if self._asked.is_set():
            return AGAIN
        process = self._terminal.start(self._tpu.ssh(f"{WORKER} run {shlex.join(arguments)}"))
        told = False
        while (code := _ended(process)) is None:
            if self._asked.is_set() and not told:
                told = True
                with contextlib.suppress(CommandFailed):  # it may be ending
                    self.on_all(f"{WORKER} stop")
        lost = code not in (0, AGAIN) and (code == 255 or self.state() != "ACTIVE")
        return AGAIN if lost else code

    def progress(self, workdir: str) -> str:
        """The newest checkpoint that the run folder promises."""
        command = self._tpu.ssh(f"{WORKER} progress {shlex.quote(workdir)}", node="0", worker="0")
        return self._terminal.read(command) or ""

    def logs(self, lines: int) -> None:
        """The end of what worker 0 has printed."""
        self._terminal.run(self._tpu.ssh(f"{WORKER} logs {lines}", node="0", worker="0"))

    def on_all(self, command: str) -> None:
        """Runs a shell command on all workers."""
        self._terminal.run(self._tpu.ssh(command))

    def delete(self) -> None:
        """Ends the costs."""
        self._terminal.run(self._tpu.delete())


def main(argv: Sequence[str]) -> int:
    """The exit code of the action."""
    options, arguments = parse(argv)
    if problem := wrong(options, arguments):
        _say(problem)
        return WRONG
    if options.action == "train" and not options.dry_run:
        return train(argv, options)
    tpu = QueuedTpu(**{key: value for key, value in vars(options).items() if key in QueuedTpu.__dataclass_fields__})
    pod = Pod(tpu, Terminal(options.dry_run), poll=options.poll, prepare=options.prepare)
    try:
        return act(pod, options, arguments)
    except (CommandFailed, FileNotFoundError) as error:
        _say(str(error))
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
            print(state := pod.state())
            if state in ("", "ACTIVE"):
                pod.on_all(f"{WORKER} status")
        case "stop":
            pod.on_all(f"{WORKER} stop")
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
    pod.create()
    if code := pod.wait():
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
    add("--prepare", default="", help="shell command for every worker before the set-up, such as a mount")
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


def _ended(process: subprocess.Popen) -> int | None:
    """The exit code, or None after a moment without one."""
    try:
        return process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return None


def _say(line: str) -> None:
    print(f"tpu_vm: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
