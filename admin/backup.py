"""`dtm-admin backup` and `dtm-admin restore`: a whole copy of the store, and the way back."""

from __future__ import annotations

from pathlib import Path

import click

from dtm.core.escapes import escaped

from . import documents
from .clock import exact, utc_now
from .options import Output, local_options, log_option
from .wording import mebibytes

_FILE = click.Path(path_type=Path)


@click.command
@click.argument("file", type=_FILE)
@local_options
@click.option("-f", "--force", is_flag=True, help="Replace an earlier backup; nothing else is ever replaced.")
def backup(db: Path, output: Output, file: Path, force: bool) -> None:
    """Copy the store to FILE, as it is at one moment, beside a live server or without one.

    The copy is whole and on disk when the command ends. No server works on it before 'dtm-admin restore' has put it
    in place.
    """
    from dtm.storage.backup import back_up

    size = back_up(db, file, replace=force)
    if output == "json":
        click.echo(documents.page({"db": str(db), "file": str(file), "bytes": size}))
    else:
        click.echo(f"Backed up {escaped(str(db))} to {escaped(str(file))}, {mebibytes(size)}.")


@click.command
@click.argument("file", metavar="BACKUP", type=_FILE)
@local_options
@log_option
def restore(db: Path, output: Output, file: Path, dead_letter_log: Path) -> None:
    """Put a copy of BACKUP in place as the database, where none must stand.

    The store gets a new identity, and numbers above all that were ever given out: what clients still hold of the time
    after the backup is answered 'stale'. The dead-letter log that lies there is moved aside, as it tells of that time
    too; the server's next start writes it anew.
    """
    from .restoring import put_back

    done = put_back(file, db, dead_letter_log, now=utc_now())
    if output == "json":
        document = {
            "db": str(db),
            "backup": str(file),
            "store": done.store.store,
            "was": done.store.was,
            "numbers_above": done.store.floor,
            "restored_at": exact(done.at),
            "logs_moved_aside": [str(log) for log in done.logs],
        }
        click.echo(documents.page(document))
        return
    click.echo(f"Restored {escaped(str(file))} as {escaped(str(db))}. What happened after the backup is not in it.")
    for log in done.logs:
        click.echo(f"Moved the log aside: {escaped(str(log))}")
