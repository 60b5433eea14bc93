# SPDX-License-Identifier: Apache-2.0
"""What every command shares: parse the flags, prepare the process, run, and translate errors into exit codes.

Exit codes: 0 done; 75 try again (preempted, lost peer, disk full, folder in use); 78 wrong config or data, never retry;
1 a bug of ours, with its traceback; 128 + n a second signal n.
"""

import contextlib
import inspect
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from absl import flags

from perceiver_jax.errors import EX_CONFIG, EX_TEMPFAIL, ConfigError, Retry

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""How XLA's errors begin when memory is used up."""
LESS_MEMORY = "Lower config.batch_size, raise config.micro_batches, or set config.model.remat=True."

QUOTES = "'\""

CODES = "PERCEIVER_JAX_EXIT_CODES"
"""Variable with a folder where a process notes 1 and 78 before it ends with it: what starts many processes and is told
the highest code of all, as Slurm, would take an abort of the others, 134, for it."""

MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296"
"""How malloc gets memory: in huge pages, and what a step gave back is kept for the next one instead of being asked from
the system again, page by page. Training on the CPU takes 0.4 (small models) to 0.75 of the time it takes without."""


def run(main: Callable[[Sequence[str]], object], *, words: bool = False, tune_process: bool = False) -> None:
    """Runs `main(argv)` as a command and exits the process.

    Args:
        main: gets the arguments that are not flags, the program's name first.
        words: there may be such arguments; without, one is an error.
        tune_process: start the process anew, once, with the environment a training step profits from. Only a command
            that trains or measures wants it, and only before JAX is imported.
    """
    if tune_process:
        _tune_process()
    _set_up_logging()
    code = 0
    if {"-h", "--help", "-help"} & set(sys.argv[1:]):
        print(_help(main))
        sys.exit(0)
    try:
        main(_parse(sys.argv, words))
    except ConfigError as error:
        code = _complain(error, EX_CONFIG)
    except Retry as error:
        code = _complain(error, EX_TEMPFAIL)
    except KeyboardInterrupt:
        code = _complain("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # `... | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except Exception as error:
        if isinstance(error, RuntimeError) and OUT_OF_MEMORY in str(error):
            code = _complain(f"out of memory. {LESS_MEMORY} ({str(error).splitlines()[0][:200]})", EX_CONFIG)
        else:
            traceback.print_exception(error)
            code = 1
    if code:
        _note(code)
        _leave(code)
    sys.exit(code)


def define_config() -> None:
    """Defines --config, with a flag --config.KEY for every value of the file it names, and --config_overlay."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", None, "experiment: configs/NAME.py[:VARIANT,...]")
    flags.DEFINE_string("config_overlay", "", "JSON or YAML whose values replace the config's; flags win over both")


def define_processes() -> None:
    """Defines what says which of several processes this one is; `process_flags` has the values."""
    flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, where several processes are one run")
    flags.DEFINE_integer("num_processes", None, "how many there are; 1: do not ask the cluster", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "which of them this one is, from 0", lower_bound=0)
    flags.DEFINE_float("start_seconds", 300.0, "how long a process waits for the others at the start", lower_bound=0)
    flags.DEFINE_float("heartbeat_seconds", 100.0, "a process that gives no sign for so long is lost", lower_bound=1)


def process_flags() -> dict[str, Any]:
    """The values of the flags that `define_processes` defines."""
    names = ("coordinator", "num_processes", "process_id", "start_seconds", "heartbeat_seconds")
    return {name: flags.FLAGS[name].value for name in names}


def with_overlay(argv: Sequence[str]) -> list[str]:
    """The command with the file that --config_overlay names as flags --config.KEY=VALUE, before its own.

    Raises:
        ConfigError: it cannot be read, or is no mapping of keys.
    """
    file, config = flag_value("config_overlay", argv), flag_value("config", argv)
    if not file or not config:
        return list(argv)
    rest = [argument for argument in argv[1:] if not re.match(r"--?config(=|$)", argument) and argument != config]
    return [argv[0], f"--config={config}", *_overlay_flags(Path(file).expanduser()), *rest]


def flag_value(name: str, argv: Sequence[str]) -> str:
    """The last value of a flag, written --NAME=VALUE or --NAME VALUE; "" where it is not given."""
    pairs = [*(argument.partition("=")[::2] for argument in argv if "=" in argument), *pairwise(argv)]
    return next((value for flag, value in reversed(pairs) if flag in (f"--{name}", f"-{name}")), "")


def _overlay_flags(file: Path) -> list[str]:
    try:
        values = yaml.safe_load(file.read_text())  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--config_overlay={file} cannot be read ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config_overlay={file}: expected keys and values, got {type(values).__name__}.")
    return [f"--config.{key}={value}" for key, value in _flat(values)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values as a flag takes them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value


def overrides(argv: Sequence[str]) -> list[str]:
    """The flags --config.KEY=VALUE of a command, for another one.

    Raises:
        ConfigError: one is written without =.
    """
    found = [argument for argument in argv if re.match(r"--?config\.", argument)]
    if wrong := [argument for argument in found if "=" not in argument]:
        raise ConfigError(f"{wrong[0]}: write {wrong[0]}=VALUE here.")
    return found


def parsed_config(argv: Sequence[str]) -> Any:
    """The config that the flags of another command, which is `sys.argv`, describe: a ConfigDict.

    Raises:
        ConfigError: an unknown key or variant, or a value of another type.
    """
    from ml_collections import config_flags

    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    try:
        values(list(argv))
        values.config.keys()
    except Exception as error:
        raise _translate(error) from error
    return values.config


def config_file() -> str:
    """What --config names; ConfigError without it."""
    if flags.FLAGS["config"].value is None:
        raise ConfigError("--config is missing. Try --config=configs/solids.py, which needs no download.")
    return flags.FLAGS["config"].config_filename


def _help(main: Callable) -> str:
    """The command's docstring and its flags with their defaults."""
    lines = [inspect.getdoc(sys.modules[main.__module__]) or "", "", "Flags:"]
    for flag in sorted(_flags(), key=lambda flag: flag.name):
        default = f" (default: {flag.default})" if flag.default not in (None, "") else ""
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    return "\n".join(lines)


def _parse(argv: Sequence[str], words: bool) -> list[str]:
    """The arguments that are not flags; raises ConfigError for whatever absl, ml_collections or a config file raise."""
    try:
        if "config_overlay" in flags.FLAGS:
            sys.argv = argv = with_overlay(argv)  # ml_collections reads sys.argv itself
        arguments = flags.FLAGS(list(argv))
        _check_config_file()
    except Exception as error:
        raise _translate(error) from error
    if len(arguments) > 1 and not words:
        raise ConfigError(f"argument {arguments[1]!r} is not a flag. Write --NAME=VALUE{_own_flags()}")
    return arguments


def _translate(error: BaseException) -> BaseException:
    """The ConfigError that a failure to parse amounts to; a bug inside this package stays what it is."""
    chain = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    told = next((link for link in reversed(chain) if isinstance(link, ConfigError)), None)  # others repeat it
    if told is not None:
        return ConfigError(str(told))
    if _is_ours(error):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, (AttributeError, KeyError)) and not isinstance(error, flags.Error):  # ml_collections says
        _, found, hint = text.partition("Did you mean")
        hint = (found + hint if found else f"Its name: {text.strip(QUOTES)}.").rstrip("'")
        return ConfigError(f"the config has no such key. {hint}")
    kind = "" if isinstance(error, (flags.Error, OSError, AttributeError)) else f"{type(error).__name__}: "
    return ConfigError(f"{kind}{text}{_own_flags() if isinstance(error, flags.UnrecognizedFlagError) else ''}")


def _check_config_file() -> None:
    """A file that does not load is found out at the first access only: make it now, and say which files there are."""
    if "config" not in flags.FLAGS or flags.FLAGS.config is None:
        return
    file = Path(flags.FLAGS["config"].config_filename.partition(":")[0])
    if not file.exists():
        others = ", ".join(sorted(map(str, Path("configs").glob("*.py")))) or "none here; run from a checkout"
        raise ConfigError(f"--config={file} does not exist. There are: {others}.")
    _ = flags.FLAGS.config.keys()


def _is_ours(error: Exception) -> bool:
    """Whether it was raised inside this package, and so is a bug of ours to be shown with its traceback."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return files[-1].startswith(str(Path(__file__).parent)) and files[-1] != __file__


def _own_flags() -> str:
    names = ", ".join(sorted({f"--{flag.name}" for flag in _flags()}))
    return f". Flags of this command: {names}" if names else ""


def _flags() -> list[flags.Flag]:
    """The flags that the command itself defines."""
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module("__main__")}
    for module, defined in flags.FLAGS.flags_by_module_dict().items():  # as a console script, __main__ is another
        own |= {flag.name: flag for flag in defined if module.startswith("perceiver_jax.")}
    if "config" in flags.FLAGS:
        own["config"] = flags.FLAGS["config"]
    return list(own.values())


def _complain(error: Exception | str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


def _note(code: int) -> None:
    """Leaves a code that another start does not mend where `CODES` says."""
    folder = os.environ.get(CODES)
    if folder and code in (1, EX_CONFIG):
        with contextlib.suppress(OSError):
            Path(folder, f"{os.uname().nodename}-{os.getpid()}").write_text(f"{code}\n")


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for its threads, where one may be reading data that never comes, nor for other
    processes of the run.
    """
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
    os._exit(code)


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("perceiver_jax")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _tune_process() -> None:
    """Restarts this process, once, with `MALLOC`, which glibc reads only at the start."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if not sys.platform.startswith("linux") or "glibc.malloc.hugetlb" in tunables:
        return
    environment = dict(os.environ, GLIBC_TUNABLES=f"{tunables}:{MALLOC}" if tunables else MALLOC)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
