"""The life of a task: one table of states and events.

Knows no database, no clock and no reasons: it only says which event leads where.
"""

from __future__ import annotations

from enum import StrEnum

from dtm.core.errors import DtmError


class State(StrEnum):
    """Where a task stands; `CLEARED` is the one state without a row."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CLEARED = "cleared"


class Event(StrEnum):
    """What can happen to a task."""

    FALL_DUE = "fall due"
    ASSIGN = "assign"
    SUCCEED = "succeed"
    RETRY_LATER = "retry later"
    RETRY_NOW = "retry now"
    GIVE_UP = "give up"
    RELEASE = "release"
    SNOOZE = "snooze"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REPROCESS = "reprocess"
    CLEAR = "clear"


NEXT = {
    (State.SCHEDULED, Event.FALL_DUE): State.PENDING,
    (State.PENDING, Event.ASSIGN): State.ASSIGNED,
    (State.ASSIGNED, Event.SUCCEED): State.COMPLETED,
    (State.ASSIGNED, Event.RETRY_LATER): State.SCHEDULED,
    (State.ASSIGNED, Event.RETRY_NOW): State.PENDING,
    (State.ASSIGNED, Event.GIVE_UP): State.DEAD,
    (State.ASSIGNED, Event.RELEASE): State.PENDING,
    (State.ASSIGNED, Event.SNOOZE): State.SCHEDULED,
    (State.SCHEDULED, Event.CANCEL): State.CANCELLED,
    (State.PENDING, Event.CANCEL): State.CANCELLED,
    (State.ASSIGNED, Event.CANCEL): State.CANCELLED,
    (State.SCHEDULED, Event.EXPIRE): State.EXPIRED,
    (State.PENDING, Event.EXPIRE): State.EXPIRED,
    (State.DEAD, Event.REPROCESS): State.PENDING,
    (State.DEAD, Event.CLEAR): State.CLEARED,
}

ENDED = frozenset({State.COMPLETED, State.DEAD, State.CANCELLED, State.EXPIRED})


class IllegalEvent(DtmError):
    """The event does not exist in the task's state; nothing has changed."""


def next_state(state: State, event: Event) -> State:
    """Say where `event` leads from `state`.

    Raises:
        IllegalEvent: the table has no such arrow.
    """
    try:
        return NEXT[state, event]
    except KeyError:
        raise IllegalEvent(f"a task that is {state} cannot {event}") from None
