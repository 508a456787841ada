"""`dtm-admin audit`: the dead-letter log, held against the database."""

from __future__ import annotations

from pathlib import Path

import click

from . import documents
from .exits import EXIT_FAILED
from .options import Output, local_options, log_option


@click.group
def audit() -> None:
    """Hold the dead-letter log against the database."""


@audit.command
@local_options
@log_option
def verify(db: Path, output: Output, dead_letter_log: Path) -> int:
    """Compare the dead-letter log, rotated files too, with the database line by line.

    Checks each line's CRC and that it follows the line before it, and tells the first difference. Works beside a
    live server; what the server is still writing is no difference then. Exit code 1 if they differ.
    """
    from . import verifying

    found = verifying.verify(db, dead_letter_log)
    click.echo(documents.page(verifying.document(found)) if output == "json" else verifying.text(found))
    return 0 if found.is_equal else EXIT_FAILED
