# SPDX-License-Identifier: Apache-2.0
"""What can be done with the machines of a queued resource: ask for it, wait for it, set it up, run on it, delete it."""

import hashlib
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from launch.gcloud import ABSENT, GONE, QUEUED, CommandFailed, QueuedTpu, Terminal
from launch.supervisor import AGAIN

ROOT = Path(__file__).resolve().parents[1]
WORKER = "bash perceiver_jax/launch/tpu_worker.sh"
ARCHIVE = "perceiver_jax.tar.gz"
SENT = ("launch", "perceiver_jax", "configs", "requirements.txt")
UNPACK = (
    "{ pgrep -F perceiver_jax/.worker/pid >/dev/null 2>&1 || "
    "{ rm -rf perceiver_jax/perceiver_jax perceiver_jax/configs && mkdir -p perceiver_jax && "
    f"tar -xzf {ARCHIVE} -C perceiver_jax; }}; }}"
)
"""Nothing is changed under a run that goes on."""
PREPARED = "/dev/shm/perceiver_jax.prepared"
"""Begins the name of a file that says that a machine was prepared; in memory, so that it goes when mounts go."""


FAILURES = 40
"""How many looks at the state of a request that was there may fail in a row: 20 minutes at the usual --poll."""
TELL_AGAIN = 5.0
"""Seconds between two tries to tell a run to end, at most."""


class Pod:
    """What can be done with a TPU; SIGTERM and Ctrl-C, once it is made, are passed on to the run."""

    def __init__(self, tpu: QueuedTpu, terminal: Terminal, *, poll: float, prepare: str = ""):
        """Args:
        poll: seconds between two looks at the state.
        prepare: a shell command for all workers before the set-up, once a machine.
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
            say(f"{self._tpu.name} is {state}: deleted, and asked for again")
            self.delete()
        if state in ("", *GONE):
            self._terminal.run(self._tpu.create())

    def wait(self) -> int:
        """0 as soon as the TPU is there; 75 where it will not come, or a signal came first."""
        return self._came(self._states()[-1])

    def reach(self) -> int:
        """`create` and `wait`, again where a request was in the queue and came to nothing."""
        while True:
            self.create()
            states = self._states()
            if states[-1] not in GONE or not set(states) & set(QUEUED) or self._asked.wait(self._poll):
                return self._came(states[-1])

    def _came(self, state: str) -> int:
        return AGAIN if state in GONE or self._asked.is_set() else 0

    def _states(self) -> list[str]:
        """Those that the request goes through, until it stays as it is or a signal comes."""
        states: list[str] = []
        while True:
            state = self._patient_state()
            if state not in states[-1:]:
                say(f"{self._tpu.name} is {state or 'not looked at'}")
                states.append(state)
            if state in ("", "ACTIVE", *GONE) or self._asked.wait(self._poll):
                return states

    def _patient_state(self) -> str:
        """As `state`, but waits while Google cannot be asked; UNKNOWN where a signal comes meanwhile."""
        for _ in range(FAILURES):
            try:
                return self.state()
            except CommandFailed as error:
                say(f"{error}; asked again")
            if self._asked.wait(self._poll):
                return "UNKNOWN"
        say(f"given up: {FAILURES} looks at {self._tpu.name} in a row failed. {still_stands(self._tpu)}")
        return self.state()

    def setup(self) -> None:
        """The last commit and its pinned environment, on all workers."""
        behind = self._terminal.read(["git", "-C", str(ROOT), "status", "--porcelain", "--", *SENT])
        if behind:
            say(f"not copied, because it is not committed:\n{behind}")
        with tempfile.TemporaryDirectory() as folder:
            archive = str(Path("FOLDER" if self._terminal.dry_run else folder) / ARCHIVE)
            git = ["git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={archive}", "HEAD", *SENT]
            self._terminal.run(git)
            self._terminal.run(self._tpu.scp(archive, ARCHIVE))
        self.on_all(" && ".join(filter(None, [once(self._prepare), UNPACK, f"{WORKER} setup"])))

    def run(self, arguments: Sequence[str]) -> int:
        """The exit code of the run; 75 where the TPU was lost."""
        if self._asked.is_set():
            return AGAIN
        process = self._terminal.start(self._tpu.ssh(f"{WORKER} run {shlex.join(arguments)}"))
        told, next_try = False, 0.0
        while (code := _ended(process)) is None:
            if self._asked.is_set() and not told and time.monotonic() >= next_try:
                told = self._told_to_stop()
                next_try = time.monotonic() + min(self._poll, TELL_AGAIN)
        if code in (0, AGAIN):
            return code
        lost = self._patient_state() != "ACTIVE" or code == 255
        return AGAIN if lost else code

    def _told_to_stop(self) -> bool:
        try:
            self.stop()
        except CommandFailed as error:  # the run may be ending
            say(f"{error}; tried again")
            return False
        return True

    def progress(self, workdir: str) -> str:
        """The newest checkpoint that the run folder promises."""
        command = self._tpu.ssh(f"{WORKER} progress {shlex.quote(workdir)}", node="0", worker="0")
        return self._terminal.read(command) or ""

    def status(self) -> None:
        """Prints the state of the request, and of the run on each worker."""
        print(state := self.state())
        if state in ("", "ACTIVE"):
            self.on_all(f"{WORKER} status")

    def stop(self) -> None:
        """Tells the run on all workers to save and end."""
        self.on_all(f"{WORKER} stop")

    def logs(self, lines: int) -> None:
        """The end of what worker 0 has printed."""
        self._terminal.run(self._tpu.ssh(f"{WORKER} logs {lines}", node="0", worker="0"))

    def on_all(self, command: str) -> None:
        """Runs a shell command on all workers."""
        self._terminal.run(self._tpu.ssh(command))

    def delete(self) -> None:
        """Ends the costs."""
        self._terminal.run(self._tpu.delete())


def still_stands(tpu: QueuedTpu) -> str:
    """That a TPU was not deleted, and the command that does it."""
    where = [f"--name={tpu.name}", f"--zone={tpu.zone}", *([f"--project={tpu.project}"] if tpu.project else [])]
    command = shlex.join(["python", "launch/tpu_vm.py", "delete", *where])
    return f"The request still stands, and costs money where it has a TPU; to delete both: {command}"


def once(command: str) -> str:
    """A shell command that does nothing where this one has run well since the machine was started."""
    mark = f"{PREPARED}.{hashlib.sha256(command.encode()).hexdigest()[:12]}"
    return command and f"{{ test -e {mark} || {{ ( {command} ) && touch {mark}; }}; }}"


def say(line: str) -> None:
    """A line of ours, beside those of the commands."""
    print(f"tpu_vm: {line}", file=sys.stderr, flush=True)


def _ended(process: subprocess.Popen) -> int | None:
    """The exit code, or None after a moment without one."""
    try:
        return process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return None
