"""Signals as events."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from anyio import Event, fail_after

from dtm.cli.signals import on_hangup, stop_events

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_asks_for_an_orderly_end_and_the_second_for_one_now(number: signal.Signals) -> None:
    """More than two say nothing new."""
    with stop_events() as (first, second), fail_after(5):
        os.kill(os.getpid(), number)
        await first.wait()
        assert not second.is_set()

        os.kill(os.getpid(), number)
        await second.wait()
        os.kill(os.getpid(), number)


async def test_either_signal_may_be_the_second() -> None:
    """Ctrl-C after SIGTERM."""
    with stop_events() as (first, second), fail_after(5):
        os.kill(os.getpid(), signal.SIGTERM)
        await first.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await second.wait()


async def test_a_sleeping_loop_is_woken() -> None:
    """The signal counts at once, not with the next thing that happens to happen."""
    with stop_events() as (first, _), fail_after(5):
        signal.setitimer(signal.ITIMER_REAL, 0)
        previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            await first.wait()
        finally:
            signal.signal(signal.SIGALRM, previous)


async def test_afterwards_signals_are_what_they_were() -> None:
    """A program that goes on can be interrupted again."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_events():
        assert signal.getsignal(signal.SIGTERM) != before[1]

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_each_hangup_calls() -> None:
    """And does not end the program, as it does where nobody wants it."""
    before, calls = signal.getsignal(signal.SIGHUP), [Event(), Event()]
    waiting = iter(calls)
    with on_hangup(lambda: next(waiting).set()), fail_after(5):
        for call in calls:
            os.kill(os.getpid(), signal.SIGHUP)
            await call.wait()

    assert signal.getsignal(signal.SIGHUP) == before
