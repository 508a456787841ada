"""What a server takes at most of anything, and how long it waits for it; the defaults are its command line's."""

from __future__ import annotations

from msgspec import Struct

from dtm.protocol.framing import MAX_LINE, MAX_VALUE
from dtm.protocol.messages import MAX_TASKS

MEBIBYTE = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """Every bound an operator can choose. Durations are seconds, sizes bytes."""

    max_connections: int = 2_000
    # Honest clients say who they are in their first round trip; so few of them are strangers at any moment.
    max_unauthenticated: int = 500
    max_line: int = MAX_LINE
    max_payload: int = MAX_VALUE
    max_tasks_per_submit: int = MAX_TASKS
    max_queued: int = 64 * MEBIBYTE
    # A client may hold 100,000 tasks, each of them a message, and have answers to come besides.
    max_queued_messages: int = 250_000
    max_waiting: int = 20_000
    # Twice what may be on its way to the disk when the mark is passed: once for SQLite's log, once for the database.
    min_free_disk: int = 128 * MEBIBYTE
    busy_timeout_s: float = 5.0
    # Long enough for a person who types it.
    first_message_deadline_s: float = 30.0
    line_deadline_s: float = 30.0
    send_deadline_s: float = 10.0
