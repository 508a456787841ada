"""How far ahead a worker fetches."""

from __future__ import annotations

import math

import pytest

from dtm.client.prefetch import AHEAD_S, MOST_AHEAD, AutoPrefetch, FixedPrefetch


@pytest.mark.parametrize("tasks", [0, 1, 7])
def test_a_fixed_number_stays(tasks: int) -> None:
    """Whatever the tasks took, and it is never given back."""
    prefetch = FixedPrefetch(tasks)
    prefetch.ran(5, 1_000)

    assert prefetch.ahead(4) == tasks
    assert prefetch.patience_s == math.inf


def test_nothing_is_fetched_ahead_before_anything_is_known() -> None:
    """The first tasks may be long."""
    assert AutoPrefetch().ahead(8) == 0


@pytest.mark.parametrize(
    ("took_s", "ahead"),
    [(10.0, 0), (AHEAD_S * 4, 1), (AHEAD_S, 4), (AHEAD_S / 10, 40), (1e-4, MOST_AHEAD), (0.0, MOST_AHEAD)],
)
def test_as_much_as_all_slots_run_in_a_moment(took_s: float, ahead: int) -> None:
    """None of long tasks, many of short ones, never more than the bound."""
    prefetch = AutoPrefetch()
    prefetch.ran(1, took_s)

    assert prefetch.ahead(4) == ahead


def test_a_long_task_counts_at_once() -> None:
    """What is held behind it must go back."""
    prefetch = AutoPrefetch()
    for _ in range(100):
        prefetch.ran(10, 0.01)
    assert prefetch.ahead(4) == 400
    prefetch.ran(1, 5)

    assert prefetch.ahead(4) == 0


def test_short_tasks_are_believed_slowly() -> None:
    """One that came quickly among long ones may be an exception; many are the rule."""
    prefetch = AutoPrefetch()
    prefetch.ran(1, 5)
    found = []
    for _ in range(60):
        prefetch.ran(1, 0.001)
        found.append(prefetch.ahead(4))

    assert found[0] == 0
    assert found == sorted(found)
    assert found[-1] > 300
