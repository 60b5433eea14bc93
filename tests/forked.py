# SPDX-License-Identifier: Apache-2.0
"""Commands without their start-up: one process imports the libraries once and forks for every command.

A fork has its own flags, environment and exit, so that a table of wrong commands takes seconds. Nothing is computed
before the fork. Reads a JSON object a line from stdin and answers with one.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 400  # seconds a command has


def main() -> None:
    sys.path.insert(0, str(ROOT))
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"  # no command starts itself anew
    for module in ("prediction", "run_folder", "reports.exported", "data.prepared_clouds", "training.loop"):
        importlib.import_module(f"perceiver_jax.{module}")
    warnings.filterwarnings("ignore", "os.fork")
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def run(module: str, arguments: list[str], env: dict[str, str], cwd: str) -> dict:
    """How `python -m perceiver_jax.MODULE ARGUMENTS` ends and what it says."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = os.fork()
        if process == 0:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            os.environ.update(env)
            os.chdir(cwd)
            signal.alarm(PATIENCE)
            _become(module, arguments)
        status = os.waitpid(process, 0)[1]
        said = {}
        for name, stream in (("stdout", stdout), ("stderr", stderr)):
            stream.seek(0)
            said[name] = stream.read().decode(errors="replace")
        return {"rc": os.waitstatus_to_exitcode(status), **said}


def _become(module: str, arguments: list[str]) -> None:
    """The command, in this process, which ends with it."""
    code = 1
    try:
        sys.argv = [module, *arguments]
        importlib.import_module(f"perceiver_jax.{module}").run()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
