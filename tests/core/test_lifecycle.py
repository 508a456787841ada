"""The life of a task: every pair of state and event, against a table written by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.errors import DtmError
from dtm.core.lifecycle import ENDED, NEXT, Event, IllegalEvent, State, next_state

ARROWS = """
scheduled  fall due     pending
pending    assign       assigned
assigned   succeed      completed
assigned   retry later  scheduled
assigned   retry now    pending
assigned   give up      dead
assigned   release      pending
assigned   snooze       scheduled
scheduled  cancel       cancelled
pending    cancel       cancelled
assigned   cancel       cancelled
scheduled  expire       expired
pending    expire       expired
dead       reprocess    pending
dead       clear        cleared
"""


def _arrows() -> dict[tuple[State, Event], State]:
    lines = (line.split() for line in ARROWS.split("\n") if line)
    return {(State(words[0]), Event(" ".join(words[1:-1]))): State(words[-1]) for words in lines}


DRAWN = _arrows()
EVERYTHING = sorted(product(State, Event))


@pytest.mark.parametrize(("state", "event"), EVERYTHING)
def test_each_state_answers_each_event(state: State, event: Event) -> None:
    """An event leads where the drawing says, or it is illegal; there is no third way."""
    if (state, event) in DRAWN:
        assert next_state(state, event) is DRAWN[state, event]
    else:
        with pytest.raises(IllegalEvent, match=f"a task that is {state} cannot {event}"):
            next_state(state, event)


def test_an_illegal_event_is_one_of_dtms_errors() -> None:
    """Whoever shows errors to people shows this one too."""
    assert issubclass(IllegalEvent, DtmError)


def test_the_end_is_left_only_by_an_operators_command() -> None:
    """Dead has two ways out, and both are commands; the other ends have none."""
    ways_out = {event for state, event in NEXT if state in ENDED}

    assert ways_out == {Event.REPROCESS, Event.CLEAR}
    assert {state for state, _ in NEXT if state in ENDED} == {State.DEAD}


def test_only_a_pending_task_is_assigned() -> None:
    """Nobody gets a task that waits for its time, runs elsewhere or has ended."""
    assert [state for state, event in NEXT if event is Event.ASSIGN] == [State.PENDING]


def test_what_waits_and_what_has_ended_are_different_states() -> None:
    """With assigned and cleared between and after them they are all states there are."""
    waiting = {State.SCHEDULED, State.PENDING}

    assert frozenset(State) == waiting | ENDED | {State.ASSIGNED, State.CLEARED}
    assert not waiting & ENDED


@given(st.lists(st.sampled_from(Event)))
def test_a_task_ends_once_between_two_reprocessings(events: list[Event]) -> None:
    """Whatever is tried in whatever order, an end that was reached stays until an operator reopens it."""
    state, ends = State.PENDING, 0
    for event in events:
        try:
            state = next_state(state, event)
        except IllegalEvent:
            continue
        ends += state in ENDED
        ends -= event in {Event.REPROCESS, Event.CLEAR}
        assert ends == (state in ENDED)
