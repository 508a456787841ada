"""Promises hold whenever a process is killed and whatever a power loss leaves; `make crash` tries more."""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace

from tests.faults.crash.crew import Crew
from tests.faults.crash.recorder import COMPILER
from tests.faults.crash.scenarios import SCENARIOS
from tests.faults.crash.schedules import GROUP
from tests.faults.crash.tally import Tally
from tests.faults.crash.worker import Order

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or COMPILER is None,
    reason="the crash shim needs Linux and a C compiler (cc, gcc or clang)",
)


JOBS = 2


def play(order: Order) -> Tally:
    """Let processes of their own carry out an order, each a part of it."""
    tally = Tally()
    with Crew([replace(order, part=part, of=JOBS) for part in range(JOBS)]) as crew:
        for part in crew.tallies():
            tally.add(part)
    return tally


@pytest.mark.parametrize("scenario", ["killed-in-creation", "killed-in-commit"])
def test_a_restart_can_be_killed_at_every_call(scenario: str) -> None:
    """Before, half-way through and after each call of a restart, and again with the power gone at that moment.

    The files it leaves are those that the record says it leaves: what the other tests compute is what happens.
    """
    tally = play(Order(seed="8", scenarios=(scenario,), walk=True))

    assert tally.failures == []
    assert tally.kill_points_hit == tally.kill_points == tally.crashes > 30
    assert tally.power_losses == tally.kill_points


def test_promises_survive_random_crashes_and_power_losses() -> None:
    """Up to three crashes in a row, in all kinds of lives, most of them with the loss of what was not synced."""
    tally = play(Order(seed="1", schedules=GROUP * len(SCENARIOS)))

    assert tally.failures == []
    assert tally.lives == len(SCENARIOS)
    assert tally.recoveries == tally.crashes > tally.schedules == GROUP * len(SCENARIOS)
    assert tally.power_losses > tally.schedules / 2


# A log whose name was not synced is met in one of a hundred schedules.
@pytest.mark.parametrize(
    ("scenario", "schedules"), [("killed-in-commit", 75), ("killed-in-log", 300), ("log-moved-by-hand", 75)]
)
def test_nothing_is_spoken_of_that_only_the_page_cache_holds(scenario: str, schedules: int) -> None:
    """Killed just before a sync, started again, and then the power fails: what the restart said must be there."""
    tally = play(Order(seed="2", scenarios=(scenario,), schedules=schedules))

    assert tally.failures == []
