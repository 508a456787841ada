"""Watchers: who waits for which task, and that nothing is left behind."""

from __future__ import annotations

from dtm.server.watchers import Watchers
from tests.server.stores import Silence

ONE, TWO = Silence(), Silence()


def leftovers(watchers: Watchers) -> int:
    """Count what is still remembered of any task."""
    return len(watchers._by_task) + sum(len(tasks) for tasks in watchers._by_outlet.values())


def test_all_who_wait_are_named_once() -> None:
    """An end is told; after that nobody waits."""
    watchers = Watchers()
    watchers.watch(ONE, [1, 2, 1])
    watchers.watch(TWO, [1])

    assert set(watchers.finished(1)) == {ONE, TWO}
    assert set(watchers.finished(1)) == set()
    assert set(watchers.finished(2)) == {ONE}
    assert set(watchers.finished(3)) == set()
    assert leftovers(watchers) == 0


def test_whoever_stops_waiting_is_not_named() -> None:
    """For this task alone; to stop what was never begun is nothing."""
    watchers = Watchers()
    watchers.watch(ONE, [1, 2])
    watchers.watch(TWO, [1])
    watchers.unwatch(ONE, 1)
    watchers.unwatch(TWO, 2)
    watchers.unwatch(TWO, 9)

    assert set(watchers.finished(1)) == {TWO}
    assert set(watchers.finished(2)) == {ONE}
    assert leftovers(watchers) == 0


def test_a_connection_is_forgotten_whole() -> None:
    """A server that runs for a year has seen many."""
    watchers = Watchers()
    watchers.watch(ONE, range(1_000))
    watchers.watch(TWO, [5])
    watchers.finished(7)
    watchers.forget(ONE)
    watchers.forget(ONE)

    assert set(watchers.finished(5)) == {TWO}
    assert leftovers(watchers) == 0
    assert ONE not in watchers._by_outlet
