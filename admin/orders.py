"""An operator's order about dead letters or tasks: counted, agreed to, carried out, reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

import click

from dtm.storage.batch import Cancel, Clear, Command, Reprocess, Selection, TaskSelection

from . import documents
from .clock import utc_now
from .exits import EXIT_FAILED, EXIT_NOT_FOUND
from .options import Output
from .place import Place
from .selecting import AnySelection
from .wording import counted, some

if TYPE_CHECKING:
    from .settling import Chosen


@dataclass(frozen=True, slots=True)
class Deed(Generic[AnySelection]):
    """What can be done with dead letters or tasks, and its words."""

    command: Callable[[AnySelection, int], Command]
    choose: Callable[[Place, AnySelection], Chosen[AnySelection]]
    noun: str
    verb: str
    past: str
    sought: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Order(Generic[AnySelection]):
    """Which of them are meant, and how far to go: `yes` asks nobody, `dry_run` changes nothing."""

    place: Place
    output: Output
    selection: AnySelection
    yes: bool
    dry_run: bool


def _letters(place: Place, selection: Selection) -> Chosen[Selection]:
    from .settling import choose

    return choose(place, selection)


def _active(place: Place, selection: TaskSelection) -> Chosen[TaskSelection]:
    from .settling import choose_active

    return choose_active(place, selection)


_LETTER = "dead letter"
REPROCESS = Deed(Reprocess, _letters, _LETTER, "reprocess", "reprocessed", _LETTER)
CLEAR = Deed(Clear, _letters, _LETTER, "clear", "cleared", _LETTER)
CANCEL = Deed(Cancel, _active, "task", "cancel", "cancelled", "task to cancel", "; those that run are asked to stop")


def fulfil(deed: Deed[AnySelection], order: Order[AnySelection]) -> int:
    """Carry out `order`, and give the exit code."""
    chosen = deed.choose(order.place, order.selection)
    if chosen.not_found:
        listed = ", ".join(map(str, chosen.not_found))
        click.echo(f"Found no such {deed.sought}: {listed}; 'dtm-admin tasks show ID' tells what it is.", err=True)
    done = 0
    if chosen.count and not order.dry_run:
        if not (order.yes or agrees(f"{deed.verb.capitalize()} {counted(chosen.count, deed.noun)}?")):
            click.echo("Nothing was changed.", err=True)
            return EXIT_FAILED
        done = _carry_out(deed, order, chosen)
    _report(deed, order, chosen, done)
    return EXIT_NOT_FOUND if chosen.not_found else 0


def agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"wanted an answer to {question!r}, found no terminal to ask; --yes goes on, --dry-run only looks"
        )
    return click.confirm(question, err=True)


def _carry_out(deed: Deed[AnySelection], order: Order[AnySelection], chosen: Chosen[AnySelection]) -> int:
    from .settling import carry_out

    done = 0
    try:
        for settled in carry_out(order.place, deed.command, chosen, clock=utc_now):
            done += settled
    except BaseException:
        # The slices before are settled, whatever ends this one.
        if done:
            click.echo(f"{deed.past.capitalize()} {done:,} of {counted(chosen.count, deed.noun)}.", err=True)
        raise
    return done


def _report(deed: Deed[AnySelection], order: Order[AnySelection], chosen: Chosen[AnySelection], done: int) -> None:
    if order.output == "json":
        click.echo(documents.page(_document(deed, order, chosen, done)))
    elif not chosen.count:
        click.echo(f"No {deed.noun}s match.")
    elif order.dry_run:
        tasks = some(chosen.tasks, most=len(chosen.tasks), total=chosen.count)
        click.echo(f"Would {deed.verb} {counted(chosen.count, deed.noun)}: {tasks}. Nothing was changed.")
    else:
        click.echo(f"{deed.past.capitalize()} {counted(done, deed.noun)}{deed.rest}.")


def _document(
    deed: Deed[AnySelection], order: Order[AnySelection], chosen: Chosen[AnySelection], done: int
) -> documents.Document:
    return {
        "command": deed.verb,
        "dry_run": order.dry_run,
        "selected": chosen.count,
        "done": done,
        "not_found": chosen.not_found,
    }
