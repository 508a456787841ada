"""`dtm-admin check`: whether everything in a store is as it must be."""

from __future__ import annotations

from pathlib import Path

import click

from . import documents
from .exits import EXIT_FAILED
from .options import Output, local_options, log_option


@click.command
@local_options
@log_option
def check(db: Path, output: Output, dead_letter_log: Path) -> int:
    """Look into the whole store for what must not be.

    Damage of the file, books that differ from the tasks, assignments of nobody, a broken audit. Changes nothing, and
    works on a stopped store as well as beside a live server. Exit code 1 if there are findings.
    """
    from . import checking

    checked = checking.check(db, dead_letter_log)
    click.echo(documents.page(checking.document(checked)) if output == "json" else checking.text(checked))
    return EXIT_FAILED if checked.findings else 0
