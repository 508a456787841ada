"""A batch taken apart into its items, and their receipts put together again: for the day when one item is broken."""

from __future__ import annotations

from collections.abc import Iterator

from dtm.storage.batch import Batch
from dtm.storage.receipt import Receipt


def singles(batch: Batch) -> Iterator[tuple[str | None, Batch]]:
    """Take a batch apart, each item with the name of the list that its answer belongs to; what has none goes along."""
    for name in (
        "registrations",
        "changes",
        "reports",
        "departures",
        "commands",
        "cancellations",
        "prunings",
        "submissions",
    ):
        for item in getattr(batch, name):
            yield (name if hasattr(Receipt(), name) else None), _only(name, item)
    yield (
        None,
        Batch(
            progress=batch.progress,
            heartbeats=batch.heartbeats,
            log_position=batch.log_position,
            seats=batch.seats,
            spares_overdue=batch.spares_overdue,
        ),
    )


def _only(name: str, item: object) -> Batch:
    # What comes later in the batch may still report in time.
    batch = Batch(spares_overdue=True)
    setattr(batch, name, [item])
    return batch


def merge(whole: Receipt, part: Receipt) -> None:
    """Add what a part of the batch has done to what the parts before it have."""
    for name in (
        "registrations",
        "reports",
        "commands",
        "cancellations",
        "prunings",
        "submissions",
        "assigned",
        "ended",
        "retried",
        "snoozed",
        "stopped",
        "progressed",
        "left",
    ):
        getattr(whole, name).extend(getattr(part, name))
    whole.audited |= part.audited
    whole.next_due_at = part.next_due_at
    whole.may_have_more |= part.may_have_more
