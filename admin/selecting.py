"""Which dead letters: the filters of the command line, and the selection they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dtm.cli.options import DURATION
from dtm.storage.batch import Selection

from .clock import SECOND
from .options import SOUGHT_TEXT, TASK_ID

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

_FILTERS = (
    click.option("--kind", type=SOUGHT_TEXT, help="Only tasks of this kind."),
    click.option("--id", "ids", type=TASK_ID, multiple=True, metavar="ID", help="Only this task; may be repeated."),
    click.option("--error", type=SOUGHT_TEXT, help="Only errors that contain this text, in upper or lower case."),
    click.option("--older-than", "older_than_s", type=DURATION, help="Only tasks that died at least so long ago."),
)


def filter_options(command: _Decorated) -> _Decorated:
    """Add the filters to a command: `kind`, `ids`, `error` and `older_than_s`."""
    for option in reversed(_FILTERS):
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


def require_purpose(selection: Selection) -> None:
    """Make sure that somebody said which letters are meant: a slip must not mean all.

    Raises:
        UsageError: nobody did, or said two things.
    """
    if selection.is_empty:
        raise click.UsageError("wanted ids, a filter or --all, found none; say which dead letters are meant")
    if selection.everything and selection.ids is not None:
        raise click.UsageError("wanted ids or --all, found both; leave one of them out")
