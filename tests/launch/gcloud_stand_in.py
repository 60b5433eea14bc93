# SPDX-License-Identifier: Apache-2.0
"""A stand-in for `gcloud`: writes down what it is asked, and answers from the folder in GCLOUD_STAND_IN.

`states` has a line for each `describe`, the last one again and again; ABSENT is an error, as of gcloud, and ERROR one
of the connection. `ssh` of the run ends with the first number of `codes`, and is a process that can be looked at while
a file `hold` is there; that of stop ends with the first of `stops`. `scp` keeps what it was to copy in `copied`.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

folder = Path(os.environ["GCLOUD_STAND_IN"])


def take(name: str, default: str) -> str:
    """The first line of a file, which is taken off unless it is the last."""
    lines = (folder / name).read_text().split() if (folder / name).exists() else [default]
    (folder / name).write_text("\n".join(lines[1:] or lines))
    return lines[0]


def main() -> int:
    """The exit code of the command."""
    with open(folder / "calls.jsonl", "a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    verb, command = sys.argv[4], next((word for word in sys.argv if word.startswith("--command=")), "")
    if verb == "describe":
        state = take("states", "ACTIVE")
        if state == "ABSENT":
            print("ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: not found", file=sys.stderr)
            return 1
        if state == "ERROR":
            print("ERROR: There was a problem refreshing your current auth tokens", file=sys.stderr)
            return 1
        print(state)
    if verb == "scp":
        shutil.copy(next(word for word in sys.argv if word.endswith(".tar.gz")), folder / "copied")
    if "tpu_worker.sh progress" in command:
        print(take("newest", ""))
    if "tpu_worker.sh stop" in command:
        if code := int(take("stops", "0")):
            return code
        (folder / "hold").unlink(missing_ok=True)
    if "tpu_worker.sh run" in command:
        deadline = time.monotonic() + 120
        while (folder / "hold").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return int(take("codes", "0"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
