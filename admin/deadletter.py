"""`dtm-admin deadletter`: look at dead letters, let their tasks run again, clear them away."""

from __future__ import annotations

from typing import Any

import click

from dtm.storage.batch import Selection

from . import documents
from .clock import utc_now
from .options import Output, limit_option, store_options
from .orders import CLEAR, REPROCESS, Order, fulfil
from .place import Place
from .selecting import filter_options, order_options, require_purpose, selection


@click.group
def deadletter() -> None:
    """Look at dead letters, and settle them."""


@deadletter.command("list")
@store_options
@filter_options
@limit_option
def list_(place: Place, output: Output, limit: int, **filters: Any) -> None:
    """List dead letters, the newest first."""
    from . import letters

    now = utc_now()
    listing = letters.read(place, selection(now=now, everything=True, **filters), limit=limit)
    if output == "json":
        click.echo(documents.page(letters.listing_document(listing)))
    else:
        click.echo(letters.listing_text(listing, now) if listing.letters else "No dead letters match.")
    if len(listing.letters) < listing.total:
        click.echo(f"Showing {len(listing.letters):,} of {listing.total:,}; --limit shows more.", err=True)


@deadletter.command
@order_options
@store_options
@filter_options
def reprocess(**wanted: Any) -> int:
    """Let dead tasks run again, with a fresh count of retries.

    Name them by id, by filters, or all of them by --all; conditions add up.
    """
    return fulfil(REPROCESS, _order(**wanted))


@deadletter.command
@order_options
@store_options
@filter_options
def clear(**wanted: Any) -> int:
    """Delete dead tasks; the dead-letter log keeps their record.

    Name them by id, by filters, or all of them by --all; conditions add up.
    """
    return fulfil(CLEAR, _order(**wanted))


def _order(
    *,
    place: Place,
    output: Output,
    yes: bool,
    dry_run: bool,
    task_ids: tuple[int, ...],
    ids: tuple[int, ...],
    **filters: Any,
) -> Order[Selection]:
    meant = selection(now=utc_now(), ids=task_ids + ids, **filters)
    require_purpose(meant)
    return Order(place, output, meant, yes=yes, dry_run=dry_run)
