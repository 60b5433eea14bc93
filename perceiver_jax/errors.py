# SPDX-License-Identifier: Apache-2.0
"""The two errors a command translates into an exit code; everything else is a bug of ours (exit 1)."""

EX_TEMPFAIL = 75
EX_CONFIG = 78


class ConfigError(ValueError):
    """The config, the data or a file is wrong and a second try would fail alike: exit 78."""


class Retry(RuntimeError):
    """Nothing is wrong with the config; the same command may succeed later: exit 75."""
