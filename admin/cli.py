"""`dtm-admin`: the commands on one page, and the exit codes.

Imports nothing that opens a store: `--help` must not wait for SQLAlchemy.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from dtm.cli.options import EXIT_USAGE, run_cli, version_option
from dtm.security.errors import Misconfigured
from dtm.storage.errors import StoreMissing

from .audit import audit
from .backup import backup, restore
from .check import check
from .compact import compact
from .deadletter import deadletter
from .errors import NotFound, ServerUnreachable
from .exits import EXIT_NOT_FOUND, EXIT_UNREACHABLE
from .stats import stats
from .tasks import tasks

_EXIT_CODES = {
    ServerUnreachable: EXIT_UNREACHABLE,
    StoreMissing: EXIT_NOT_FOUND,
    NotFound: EXIT_NOT_FOUND,
    Misconfigured: EXIT_USAGE,
}


@click.group(epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server unreachable, 4 not found.")
@version_option
def cli() -> None:
    """Look into a dtm store, and settle its dead letters."""


cli.add_command(audit)
cli.add_command(backup)
cli.add_command(check)
cli.add_command(compact)
cli.add_command(restore)
cli.add_command(stats)
cli.add_command(deadletter)
cli.add_command(tasks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the program's own unless `arguments` are given, and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has not every letter shows its number instead; the command must not fail for that.
            stream.reconfigure(errors="backslashreplace")
    return run_cli(cli, arguments, exit_codes=_EXIT_CODES)
