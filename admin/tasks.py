"""`dtm-admin tasks`: look at tasks, at everything that happened to one, and cancel them."""

from __future__ import annotations

from typing import Any

import click

from dtm.core.lifecycle import State

from . import documents
from .clock import utc_now
from .options import SOUGHT_TEXT, TASK_ID, Output, limit_option, store_options
from .orders import CANCEL, Order, fulfil
from .place import Place
from .selecting import order_options, require_purpose, task_filter_options, task_selection

_STATES = [state.value for state in State if state is not State.CLEARED]


@click.group
def tasks() -> None:
    """Look at tasks, at everything that happened to one, and cancel them."""


@tasks.command("list")
@store_options
@click.option("--state", type=click.Choice(_STATES), help="Only tasks in this state.")
@click.option("--kind", type=SOUGHT_TEXT, help="Only tasks of this kind.")
@limit_option
def list_(place: Place, output: Output, state: str | None, kind: str | None, limit: int) -> None:
    """List tasks, the newest first."""
    from . import task_rows

    found = task_rows.read(place, state=state, kind=kind, limit=limit)
    if output == "json":
        click.echo(documents.page({"tasks": [task_rows.document(task) for task in found.tasks]}))
    else:
        click.echo(task_rows.text(found.tasks, utc_now()) if found.tasks else "No tasks match.")
    if found.has_more:
        click.echo(f"Showing the newest {limit:,}; --limit shows more.", err=True)


@tasks.command
@store_options
@click.argument("task_id", metavar="ID", type=TASK_ID)
def show(place: Place, output: Output, task_id: int) -> None:
    """Show one task with its attempts, their errors, and what became of it."""
    from . import history

    found = history.read(place, task_id)
    click.echo(documents.page(history.document(found)) if output == "json" else history.text(found, utc_now()))


@tasks.command
@order_options
@store_options
@task_filter_options
def cancel(
    place: Place,
    output: Output,
    task_ids: tuple[int, ...],
    ids: tuple[int, ...],
    *,
    yes: bool,
    dry_run: bool,
    **filters: Any,
) -> int:
    """Cancel tasks that have not ended: those that wait end at once, those that run are asked to stop.

    Name them by id, by filters, or all of them by --all; conditions add up. A running task that succeeds all the
    same is completed; any other end of its attempt is the task's.
    """
    meant = task_selection(now=utc_now(), ids=task_ids + ids, **filters)
    require_purpose(meant)
    return fulfil(CANCEL, Order(place, output, meant, yes=yes, dry_run=dry_run))
