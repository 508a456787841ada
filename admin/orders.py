"""An operator's order about dead letters: counted, agreed to, carried out, reported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from dtm.storage.batch import Clear, Reprocess, Selection

from . import documents
from .clock import utc_now
from .exits import EXIT_FAILED, EXIT_NOT_FOUND
from .options import Output
from .place import Place
from .wording import counted, some

if TYPE_CHECKING:
    from .settling import Chosen


@dataclass(frozen=True, slots=True)
class Deed:
    """What can be done with dead letters, and its words."""

    command: type[Reprocess | Clear]
    verb: str
    past: str


@dataclass(frozen=True, slots=True)
class Order:
    """Which letters are meant, and how far to go: `yes` asks nobody, `dry_run` changes nothing."""

    place: Place
    output: Output
    selection: Selection
    yes: bool
    dry_run: bool


REPROCESS = Deed(Reprocess, "reprocess", "reprocessed")
CLEAR = Deed(Clear, "clear", "cleared")


def fulfil(deed: Deed, order: Order) -> int:
    """Carry out `order`, and give the exit code."""
    from .settling import choose

    chosen = choose(order.place, order.selection)
    if chosen.not_found:
        listed = ", ".join(map(str, chosen.not_found))
        click.echo(f"Found no such dead letter: {listed}; 'dtm-admin tasks show ID' tells what it is.", err=True)
    done = 0
    if chosen.count and not order.dry_run:
        if not (order.yes or _agrees(f"{deed.verb.capitalize()} {counted(chosen.count, 'dead letter')}?")):
            click.echo("Nothing was changed.", err=True)
            return EXIT_FAILED
        done = _carry_out(deed, order, chosen)
    _report(deed, order, chosen, done)
    return EXIT_NOT_FOUND if chosen.not_found else 0


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"wanted an answer to {question!r}, found no terminal to ask; --yes goes on, --dry-run only looks"
        )
    return click.confirm(question, err=True)


def _carry_out(deed: Deed, order: Order, chosen: Chosen) -> int:
    from .settling import carry_out

    done = 0
    try:
        for settled in carry_out(order.place, deed.command, chosen, clock=utc_now):
            done += settled
    except BaseException:
        # The slices before are settled, whatever ends this one.
        if done:
            click.echo(f"{deed.past.capitalize()} {done:,} of {counted(chosen.count, 'dead letter')}.", err=True)
        raise
    return done


def _report(deed: Deed, order: Order, chosen: Chosen, done: int) -> None:
    if order.output == "json":
        click.echo(documents.page(_document(deed, order, chosen, done)))
    elif not chosen.count:
        click.echo("No dead letters match.")
    elif order.dry_run:
        tasks = some(chosen.tasks, most=len(chosen.tasks), total=chosen.count)
        click.echo(f"Would {deed.verb} {counted(chosen.count, 'dead letter')}: {tasks}. Nothing was changed.")
    else:
        click.echo(f"{deed.past.capitalize()} {counted(done, 'dead letter')}.")


def _document(deed: Deed, order: Order, chosen: Chosen, done: int) -> documents.Document:
    return {
        "command": deed.verb,
        "dry_run": order.dry_run,
        "selected": chosen.count,
        "done": done,
        "not_found": chosen.not_found,
    }
