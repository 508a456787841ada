"""Dead letters, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from dtm.storage.batch import Selection
from dtm.storage.view import DeadLetterRow

from .clock import exact, with_age
from .documents import Document, embedded
from .gateway import reading
from .place import Place
from .tables import table
from .wording import shortened


@dataclass(frozen=True, slots=True)
class Listing:
    """The newest of the letters that match, and how many match in all."""

    letters: list[DeadLetterRow]
    total: int


def read(place: Place, selection: Selection, *, limit: int) -> Listing:
    """Read the newest open dead letters that match."""
    with reading(place) as reader:
        total, newest = reader.count_dead_letters(selection)
        return Listing(reader.dead_letters(replace(selection, through=newest), limit=limit), total)


def listing_text(listing: Listing, now: int) -> str:
    """Lay out open dead letters, a line each."""
    rows = [
        (
            letter.task_id,
            shortened(letter.kind),
            with_age(letter.died_at, now),
            letter.reason,
            "-" if letter.retry_count is None else letter.retry_count,
            shortened(letter.error),
            shortened(letter.payload),
        )
        for letter in listing.letters
    ]
    return table(["task", "kind", "died", "reason", "retries", "error", "payload"], rows, numbers=["task", "retries"])


def history_text(letters: Sequence[DeadLetterRow], now: int) -> str:
    """Lay out the deaths of one task, and what was done about each."""
    rows = [
        (
            with_age(letter.died_at, now),
            letter.reason,
            letter.resolution or "open",
            with_age(letter.resolved_at, now),
            shortened(letter.error),
        )
        for letter in letters
    ]
    return table(["died", "reason", "resolution", "resolved", "error"], rows)


def listing_document(listing: Listing) -> Document:
    """Give open dead letters for programs."""
    return {"total": listing.total, "dead_letters": [_document(letter) for letter in listing.letters]}


def history_document(letter: DeadLetterRow) -> Document:
    """Give one death of a task for programs, and what was done about it."""
    return {
        "died_at": exact(letter.died_at),
        "reason": letter.reason,
        "error": letter.error,
        "resolved_at": exact(letter.resolved_at),
        "resolution": letter.resolution,
    }


def _document(letter: DeadLetterRow) -> Document:
    return {
        "task_id": letter.task_id,
        "kind": letter.kind,
        "died_at": exact(letter.died_at),
        "reason": letter.reason,
        "retry_count": letter.retry_count,
        "error": letter.error,
        "payload": embedded(letter.payload),
    }
