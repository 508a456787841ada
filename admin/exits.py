"""The exit codes that commands give themselves; the others are click's and `run_cli`'s."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
# What a shell reports for a program that Ctrl-C ended: 128 + SIGINT.
EXIT_INTERRUPTED = 130
