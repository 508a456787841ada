"""`dtm-admin compact`: the file's free pages go back to the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import documents
from .exits import EXIT_FAILED
from .options import Output, store_options
from .orders import agrees
from .place import Place
from .wording import mebibytes

if TYPE_CHECKING:
    from dtm.storage.compaction import Compacted
    from dtm.storage.view import Space

# A slow disk; a fast one takes a third of the time.
_BYTES_PER_S = 50 * 1024 * 1024
# The estimate may be wrong by that factor, and what was asked for before has to be done first.
_PATIENCE = 10
_LEAST_PATIENCE_S = 60.0


@click.command
@store_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; say what there is to gain.")
def compact(place: Place, output: Output, yes: bool, dry_run: bool) -> int:
    """Give the free pages of the database's file back to the disk.

    The server takes free pages for new tasks, so that this is worth its while only where the store will not grow to
    that size again. It rewrites the whole store; a live server does that itself and keeps whatever it is asked
    waiting meanwhile. Takes twice the room of what is left on the disk while it runs.
    """
    from .gateway import compact as carry_out
    from .gateway import reading

    with reading(place) as reader:
        space = reader.space()
    seconds = max(1, round(space.live / _BYTES_PER_S))
    if dry_run or not space.free:
        _report(output, space, None, dry_run=dry_run)
        return 0
    what = f"{_found(space)} Submissions and results wait for about {seconds:,} s while the rest is rewritten. Go on?"
    if not (yes or agrees(what)):
        click.echo("Nothing was changed.", err=True)
        return EXIT_FAILED
    if yes:
        click.echo(what.removesuffix(" Go on?"), err=True)
    done = carry_out(place, timeout_s=max(_LEAST_PATIENCE_S, _PATIENCE * seconds))
    _report(output, space, done, dry_run=False)
    return 0


def _found(space: Space) -> str:
    return f"The database takes {mebibytes(space.taken)}, of which {mebibytes(space.free)} are free."


def _report(output: Output, space: Space, done: Compacted | None, *, dry_run: bool) -> None:
    if output == "json":
        now = space if done is None else done.after
        click.echo(
            documents.page(
                {
                    "dry_run": dry_run,
                    "before_bytes": space.taken if done is None else done.before.taken,
                    "free_bytes": space.free if done is None else done.before.free,
                    "after_bytes": now.taken,
                }
            )
        )
    elif done is None:
        click.echo(f"{_found(space)} Nothing was changed.")
    else:
        click.echo(f"Compacted the database from {mebibytes(done.before.taken)} to {mebibytes(done.after.taken)}.")
