"""Where the installed programs begin: Ctrl-C ends them in one line from the first moment on.

Imports next to nothing itself. What a program needs takes a while to import, and an interrupt there would be shown
with a traceback.
"""

from __future__ import annotations

import sys
from importlib import import_module

# What a shell reports for a program that Ctrl-C ended: 128 + SIGINT.
_EXIT_INTERRUPTED = 130


def server() -> None:
    """Run dtm-server; the console script's entry."""
    start("dtm.cli.server")


def client() -> None:
    """Run dtm-client; the console script's entry."""
    start("dtm.cli.client")


def start(module: str) -> None:
    """Import `module`, run its `main`, and end with its exit code."""
    try:
        code = import_module(module).main()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        code = _EXIT_INTERRUPTED
    sys.exit(code)
