"""Which dead letters or tasks: the filters of the command line, and the selection they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import click

from dtm.cli.options import DURATION
from dtm.core.lifecycle import State
from dtm.storage.batch import Selection, TaskSelection

from .clock import SECOND
from .options import SOUGHT_TEXT, TASK_ID

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

AnySelection = TypeVar("AnySelection", Selection, TaskSelection)

Active = Literal["scheduled", "pending", "assigned"]

_ID = click.option("--id", "ids", type=TASK_ID, multiple=True, metavar="ID", help="Only this task; may be repeated.")
_KIND = click.option("--kind", type=SOUGHT_TEXT, help="Only tasks of this kind.")
_FILTERS = (
    _KIND,
    _ID,
    click.option("--error", type=SOUGHT_TEXT, help="Only errors that contain this text, in upper or lower case."),
    click.option("--older-than", "older_than_s", type=DURATION, help="Only tasks that died at least so long ago."),
)
_ACTIVE = [state.value for state in (State.SCHEDULED, State.PENDING, State.ASSIGNED)]
_TASK_FILTERS = (
    _KIND,
    click.option("--state", type=click.Choice(_ACTIVE), help="Only tasks in this state."),
    _ID,
    click.option("--older-than", "older_than_s", type=DURATION, help="Only tasks submitted at least so long ago."),
)


def filter_options(command: _Decorated) -> _Decorated:
    """Add the filters of dead letters to a command: `kind`, `ids`, `error` and `older_than_s`."""
    return _with(command, _FILTERS)


def task_filter_options(command: _Decorated) -> _Decorated:
    """Add the filters of tasks that have not ended to a command: `kind`, `state`, `ids` and `older_than_s`."""
    return _with(command, _TASK_FILTERS)


def order_options(command: _Decorated) -> _Decorated:
    """Add what every order has: ids, `everything`, `yes` and `dry_run`."""
    return _with(command, _ORDER)


_ORDER = (
    click.argument("task_ids", type=TASK_ID, nargs=-1, metavar="[ID]..."),
    click.option("--all", "everything", is_flag=True, help="All of them, or all that the filters leave."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("-n", "--dry-run", is_flag=True, help="Change nothing; say what would be done."),
)


def _with(command: _Decorated, options: Sequence[Callable[[_Decorated], _Decorated]]) -> _Decorated:
    for option in reversed(options):
        command = option(command)
    return command


def selection(
    *, now: int, kind: str | None, ids: tuple[int, ...], error: str | None, older_than_s: float | None, everything: bool
) -> Selection:
    """Give what the filters mean at the instant `now`. Conditions add up, also to `everything`."""
    return Selection(
        ids=tuple(dict.fromkeys(ids)) or None,
        kind=kind,
        error=error,
        died_before=None if older_than_s is None else now - round(older_than_s * SECOND),
        everything=everything,
    )


def task_selection(
    *,
    now: int,
    kind: str | None,
    state: Active | None,
    ids: tuple[int, ...],
    older_than_s: float | None,
    everything: bool,
) -> TaskSelection:
    """Give what the filters of tasks mean at the instant `now`. Conditions add up, also to `everything`."""
    return TaskSelection(
        ids=tuple(dict.fromkeys(ids)) or None,
        kind=kind,
        state=state,
        created_before=None if older_than_s is None else now - round(older_than_s * SECOND),
        everything=everything,
    )


def require_purpose(selection: Selection | TaskSelection) -> None:
    """Make sure that somebody said which are meant: a slip must not mean all.

    Raises:
        UsageError: nobody did, or said two things.
    """
    if selection.is_empty:
        raise click.UsageError("wanted ids, a filter or --all, found none; say which are meant")
    if selection.everything and selection.ids is not None:
        raise click.UsageError("wanted ids or --all, found both; leave one of them out")
