"""The figures of the store at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtm.core.lifecycle import State
from dtm.storage.batch import Batch, Cancellation, Clear, NewTask, Reprocess, Selection, Why
from dtm.storage.reader import Reader
from dtm.storage.statistics import (
    DEAD_CLIENTS_SHOWN_FOR,
    ClientFigures,
    KindCount,
    OldestWaiting,
    Statistics,
    Throughput,
    statistics,
)
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, MINUTE, NOON, OK, SECOND, Stage, meanwhile, report

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)


@pytest.fixture
def reader(stage: Stage) -> Iterator[Reader]:
    """Somebody who looks on while the store works."""
    with closing(Reader.open(stage.path)) as reader:
        yield reader


def figures(stage: Stage, reader: Reader) -> Statistics:
    """Look now."""
    return statistics(reader, stage.now)


def test_an_empty_store_has_empty_figures(stage: Stage, reader: Reader) -> None:
    """No division by nothing, no missing row."""
    nothing = (0, 0, 0, 0)

    assert figures(stage, reader) == Statistics(
        at=NOON,
        counts=[],
        oldest_waiting=None,
        next_due_at=None,
        clients=[],
        throughput=[Throughput(minutes, *nothing) for minutes in (1, 5, 60)],
        week=Throughput(7 * 24 * 60, *nothing),
        log_lag=0,
    )


def test_tasks_are_counted_by_kind_and_state(stage: Stage, reader: Reader) -> None:
    """What is nowhere is left out; the sums go over all kinds."""
    done, failed, dead, _ = stage.start(NewTask("mul", "1"), ADD, ADD, ADD)
    stage.apply(Batch(reports=[report(done, OK), report(failed, FAILED), report(dead, HOPELESS)]))
    stage.submit(ADD, ADD, NewTask("mul", "1", delay=SECOND))
    found = figures(stage, reader)

    assert found.counts == [
        KindCount("add", "assigned", 1),
        KindCount("add", "dead", 1),
        KindCount("add", "pending", 2),
        KindCount("add", "scheduled", 1),
        KindCount("mul", "completed", 1),
        KindCount("mul", "scheduled", 1),
    ]
    assert [found.in_state(state) for state in State] == [2, 2, 1, 1, 1, 0, 0, 0]


# --- the oldest ------------------------------------------------------------------------------------------------


def test_the_oldest_waiting_task_is_the_one_submitted_first(stage: Stage, reader: Reader) -> None:
    """Of whatever kind and priority, as long as it is pending."""
    stage.submit(ADD, NewTask("add", "1", delay=5 * MINUTE))
    stage.give(stage.join().client_id)
    stage.wait(1)
    stage.submit(NewTask("mul", "1", priority=-3))
    stage.wait(1)
    stage.submit(NewTask("add", "1", priority=9), NewTask("mul", "1", priority=9))

    assert figures(stage, reader).oldest_waiting == OldestWaiting(3, "mul", NOON + SECOND)


def test_a_task_that_comes_back_waits_again_since_its_submission(stage: Stage, reader: Reader) -> None:
    """Released, failed or reprocessed: it is as old as it is."""
    (assigned,) = stage.start(ADD)
    stage.wait(5)
    stage.submit(ADD)
    before = figures(stage, reader).oldest_waiting
    stage.report(assigned, HOPELESS)
    stage.settle(Reprocess(EVERYTHING, 1))

    assert before == OldestWaiting(2, "add", NOON + 5 * SECOND)
    assert figures(stage, reader).oldest_waiting == OldestWaiting(1, "add", NOON)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((-(2**62), -1, 0, 1, 2**62))), max_size=12), st.data()
)
def test_the_oldest_is_found_among_any_kinds_and_priorities(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, int]], data: st.DataObject
) -> None:
    """By steps through the index, and the same as by looking at every task."""
    stage = Stage(tmp_path_factory.mktemp("oldest") / "tasks.db")
    stage.submit(*[NewTask(kind, "1", priority=priority) for kind, priority in wanted])
    client = stage.join().client_id
    for kind in data.draw(st.lists(st.sampled_from("abc"), max_size=4)):
        stage.give(client, kind, free=data.draw(st.integers(1, 4)))
    pending = stage.sql("SELECT id, kind, created_at FROM tasks WHERE state = 'pending' ORDER BY id LIMIT 1")
    with closing(Reader.open(stage.path)) as reader:
        found = figures(stage, reader).oldest_waiting
    stage.close()

    assert found == (OldestWaiting(*pending[0]) if pending else None)


def test_what_falls_due_next_is_known(stage: Stage, reader: Reader) -> None:
    """Whether it was submitted for later or waits for its next try."""
    (assigned,) = stage.start(ADD)
    stage.submit(NewTask("add", "1", delay=BACKOFF + 1))
    stage.report(assigned, FAILED)

    assert figures(stage, reader).next_due_at == NOON + BACKOFF


# --- clients ---------------------------------------------------------------------------------------------------


def test_clients_are_idle_or_busy_with_their_tasks(stage: Stage, reader: Reader) -> None:
    """In the order in which they came, with what they said of themselves."""
    stage.join("idle", kinds=("mul", "add"), capacity=2)
    stage.wait(1)
    stage.submit(ADD, ADD)
    busy = stage.join("busy").client_id
    stage.give(busy)
    stage.apply(Batch(heartbeats={busy: NOON + 2 * SECOND}))

    assert figures(stage, reader).clients == [
        ClientFigures(1, "idle", "10.0.0.7:5000", "idle", ["mul", "add"], 2, NOON, NOON, None, []),
        ClientFigures(2, "busy", "10.0.0.7:5000", "busy", ["add"], 10, NOON + SECOND, NOON + 2 * SECOND, None, [1, 2]),
    ]


def test_a_client_that_has_reported_everything_is_idle_again(stage: Stage, reader: Reader) -> None:
    """Its tasks are its own only while it holds them."""
    (assigned,) = stage.start(ADD)
    stage.report(assigned, OK)
    (client,) = figures(stage, reader).clients

    assert (client.status, client.tasks) == ("idle", [])


@pytest.mark.parametrize("why", list(Why))
def test_the_dead_are_shown_for_an_hour_with_what_they_lost(stage: Stage, reader: Reader, why: Why) -> None:
    """And only the dead: who went in peace is gone."""
    stage.start(ADD, ADD)
    stage.wait(5)
    stage.leave(1, why)
    stage.now += DEAD_CLIENTS_SHOWN_FOR
    shown = [(client.status, client.left_at, client.tasks) for client in figures(stage, reader).clients]
    stage.now += 1
    later = figures(stage, reader).clients

    assert shown == ([("dead", NOON + 5 * SECOND, [1, 2])] if why.is_death else [])
    assert later == []


def test_the_living_come_before_the_dead_and_the_last_death_first(stage: Stage, reader: Reader) -> None:
    """What matters now stands on top."""
    for name in ("w1", "w2", "w3", "w4"):
        stage.join(name)
    for client in (3, 2):
        stage.wait(1)
        stage.leave(client, Why.SILENT)

    assert [client.client_id for client in figures(stage, reader).clients] == [1, 4, 2, 3]


# --- throughput ------------------------------------------------------------------------------------------------


def test_throughput_goes_over_the_running_minute_and_as_many_whole_ones(stage: Stage, reader: Reader) -> None:
    """A minute further back drops out of a window at once, and of the next larger one later."""
    stage.wait(59)
    stage.submit(ADD)
    seen = []
    for minutes in (0, 1, 2, 5, 6, 60, 61):
        stage.now = NOON + minutes * MINUTE
        found = figures(stage, reader)
        seen.append([window.submitted for window in (*found.throughput, found.week)])

    assert seen == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]


def test_throughput_tells_what_time_and_people_have_ended(stage: Stage, reader: Reader) -> None:
    """A timeout that is tried again is a retry as well."""
    stage.start(NewTask("add", "1", timeout=SECOND))
    stage.submit(NewTask("mul", "1", expires=SECOND), NewTask("mul", "1"))
    stage.apply(Batch(cancellations=[Cancellation((3,))]))
    stage.wait(1)
    stage.apply(Batch())
    found = figures(stage, reader).throughput[0]

    assert (found.submitted, found.retried, found.timed_out, found.cancelled, found.expired) == (3, 1, 1, 1, 1)


def test_throughput_tells_what_came_in_and_what_became_of_it(stage: Stage, reader: Reader) -> None:
    """A death of a client is a retry like a failure."""
    assigned = stage.start(*[ADD] * 6)
    stage.apply(
        Batch(
            reports=[report(assigned[0], OK), report(assigned[1], OK), *[report(one, FAILED) for one in assigned[2:4]]]
        )
    )
    stage.report(assigned[4], HOPELESS)
    stage.leave(1, Why.SILENT)
    found = figures(stage, reader)

    assert found.throughput == [Throughput(minutes, 6, 2, 3, 1) for minutes in (1, 5, 60)]
    assert found.week == Throughput(7 * 24 * 60, 6, 2, 3, 1)


# --- the log ---------------------------------------------------------------------------------------------------


def test_the_lag_of_the_log_is_what_it_has_not_written(stage: Stage, reader: Reader) -> None:
    """As the server has noted; lines, not deaths: a command counts too."""
    lags = []
    stage.bury(ADD, ADD)
    lags.append(figures(stage, reader).log_lag)
    stage.apply(Batch(log_position=2))
    lags.append(figures(stage, reader).log_lag)
    stage.settle(Clear(EVERYTHING, 1))
    lags.append(figures(stage, reader).log_lag)

    assert lags == [2, 0, 1]


def test_all_figures_are_of_one_moment(stage: Stage, reader: Reader) -> None:
    """Between any two of its questions somebody commits; the answers fit together all the same."""
    stage.submit(ADD)
    meanwhile(reader, lambda: stage.bury(NewTask("mul", "1")))
    found = figures(stage, reader)

    assert found.counts == [KindCount("add", "pending", 1)]
    assert found.clients == []
    assert [window.submitted for window in found.throughput] == [1, 1, 1]
    assert found.log_lag == 0
    assert len(stage.audit()) > 5
