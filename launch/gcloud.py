# SPDX-License-Identifier: Apache-2.0
"""The commands of `gcloud` for TPU machines that are waited for in a queue (queued resources), and how they are run.

Written from the pages below cloud.google.com/sdk/gcloud/reference/compute/tpus/queued-resources; only flags that are
generally available are used. One queued resource is one slice, or several of the same kind (multislice).
"""

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence

from launch.supervisor import followed

ABSENT = "ABSENT"
"""What we call the state of a queued resource that is not there."""
GONE = (ABSENT, "FAILED", "SUSPENDED")
"""States that no TPU comes out of any more."""
QUEUED = ("WAITING_FOR_RESOURCES", "PROVISIONING")
"""States of a request that was accepted."""
KEEP_ALIVE = ("--ssh-flag=-oServerAliveInterval=30", "--ssh-flag=-oServerAliveCountMax=4")
"""A connection to a machine that was taken away ends after two minutes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueuedTpu:
    """A queued resource by its name, and what is asked for.

    Attributes:
        node_count: how many slices.
        create_flags, connect_flags: further flags of `create`, and of `ssh` and `scp`, as gcloud takes them.
    """

    name: str
    zone: str
    project: str = ""
    accelerator_type: str = ""
    runtime_version: str = ""
    node_count: int = 1
    spot: bool = False
    create_flags: Sequence[str] = ()
    connect_flags: Sequence[str] = ()

    def create(self) -> list[str]:
        """Asks for the TPUs; returns before they are there."""
        if self.node_count > 1:
            nodes = [f"--node-count={self.node_count}", f"--node-prefix={self.name}"]
        else:
            nodes = [f"--node-id={self.name}"]
        kind = [f"--accelerator-type={self.accelerator_type}", f"--runtime-version={self.runtime_version}"]
        return self._command("create", [*kind, *nodes, *(["--spot"] if self.spot else []), *self.create_flags])

    def describe(self) -> list[str]:
        """Prints the state, one word."""
        return self._command("describe", ["--format=value(state.state)"])

    def delete(self) -> list[str]:
        """Deletes the machines with all that is on them, and the request; returns when it is done."""
        return self._command("delete", ["--force", "--quiet"])

    def ssh(self, command: str, *, node: str = "all", worker: str = "all") -> list[str]:
        """Runs a shell command on machines at the same time; ends with the exit code of one that failed."""
        where = [f"--node={node}", f"--worker={worker}", *KEEP_ALIVE, *self.connect_flags]
        return self._command("ssh", [*where, f"--command={command}"])

    def scp(self, source: str, target: str) -> list[str]:
        """Copies a file to all machines."""
        argv = self._command("scp", ["--node=all", "--worker=all", *self.connect_flags])
        return [*argv[:5], source, f"{self.name}:{target}", *argv[6:]]

    def _command(self, verb: str, flags: Sequence[str]) -> list[str]:
        where = [f"--zone={self.zone}", *([f"--project={self.project}"] if self.project else [])]
        return ["gcloud", "compute", "tpus", "queued-resources", verb, self.name, *where, *flags]


class CommandFailed(Exception):
    """A command ended with another exit code than 0; it has said why."""


@dataclasses.dataclass(frozen=True)
class Terminal:
    """Runs commands, or prints what it would run."""

    dry_run: bool

    def run(self, argv: Sequence[str]) -> None:
        """Raises:
        CommandFailed: the command failed.
        """
        if self.dry_run:
            print(shlex.join(argv))
        elif code := subprocess.run(argv).returncode:
            raise CommandFailed(f"exit code {code}: {shlex.join(argv)}")

    def start(self, argv: Sequence[str]) -> subprocess.Popen:
        """In the background, out of the reach of the terminal's Ctrl-C; a dry run starts `true` instead."""
        if self.dry_run:
            print(shlex.join(argv))
        return subprocess.Popen(
            ["true"] if self.dry_run else argv,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=followed(),
        )

    def read(self, argv: Sequence[str], *, absent: str = "") -> str | None:
        """What the command prints; nothing in a dry run.

        Args:
            absent: a word of an error message with which None is returned.

        Raises:
            CommandFailed: the command failed otherwise.
        """
        if self.dry_run:
            print(shlex.join(argv))
            return ""
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode and absent and absent in done.stderr:
            return None
        if done.returncode:
            print(done.stderr, file=sys.stderr, end="")
            raise CommandFailed(f"exit code {done.returncode}: {shlex.join(argv)}")
        return done.stdout.strip()
