"""Who comes, who goes and who comes back, and what becomes of the tasks that they held."""

from __future__ import annotations

import pytest

from dtm.core.lifecycle import State
from dtm.storage.batch import (
    DEATHS,
    Batch,
    Change,
    Departure,
    Failure,
    NewTask,
    Registration,
    Why,
)
from dtm.storage.receipt import Ended, Left, Registered, Retried, Verdict
from tests.storage.stage import HOPELESS, NOON, OK, SECOND, Stage, report

ADD = NewTask("add", "1")
SPARED = sorted(set(Why) - DEATHS)
KILLED = sorted(DEATHS)


# --- joining ---------------------------------------------------------------------------------------------------


def test_each_newcomer_has_a_number_of_its_own(stage: Stage) -> None:
    """In their order, whatever they call themselves."""
    newcomers = [Registration("w1", f"10.0.0.7:{port}", ("a", "b"), 4) for port in (1, 2)]
    receipt = stage.apply(Batch(registrations=newcomers))

    assert receipt.registrations == [Registered(1), Registered(2)]
    assert stage.join("w1") == Registered(3)
    assert stage.sql("SELECT name, address, kinds, capacity, connected_at, last_heartbeat_at, left_at FROM clients")[
        :2
    ] == [("w1", f"10.0.0.7:{port}", '["a","b"]', 4, NOON, NOON, None) for port in (1, 2)]


def test_numbers_of_clients_are_not_given_again(stage: Stage) -> None:
    """Not after all have left, and not after a restart."""
    stage.leave(stage.join().client_id, Why.GOODBYE)
    stage.reopen()

    assert stage.join().client_id == 2


def test_what_a_client_takes_can_change(stage: Stage) -> None:
    """Of several words in one batch the last one counts, and nobody else is changed."""
    one, other = stage.join("w1").client_id, stage.join("w2").client_id
    stage.apply(Batch(changes=[Change(one, ("x",), 1), Change(one, ("y\0", "z"), 2)]))

    assert stage.sql("SELECT id, kinds, capacity FROM clients") == [
        (one, '["y\\u0000","z"]', 2),
        (other, '["add"]', 10),
    ]


def test_heartbeats_are_noted(stage: Stage) -> None:
    """Each at its own instant."""
    one, other, silent = (stage.join(name).client_id for name in ("w1", "w2", "w3"))
    stage.apply(Batch(heartbeats={one: NOON + 1, other: NOON + 2}))

    assert stage.sql("SELECT id, last_heartbeat_at FROM clients") == [
        (one, NOON + 1),
        (other, NOON + 2),
        (silent, NOON),
    ]


# --- leaving ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", SPARED)
def test_who_leaves_in_peace_costs_its_tasks_nothing(stage: Stage, why: Why) -> None:
    """They are pending at once with all their tries, as if they had never been given out."""
    first, _ = stage.start(NewTask("add", "1", max_retries=1), ADD)
    stage.wait(1)
    receipt = stage.leave(first.client_id, why)
    task = stage.task(1)

    assert receipt.left == [Left(first.client_id, "w1", why, 2)]
    assert (receipt.retried, receipt.ended) == ([], [])
    assert stage.states(1, 2) == ["pending", "pending"]
    assert (task.retry_count, task.failure, task.last_retry_at, task.assignment_id) == (0, None, None, None)
    assert stage.sql("SELECT outcome, finished_at, error FROM assignments") == [("released", NOON + SECOND, None)] * 2
    assert stage.sql("SELECT left_at, why, left_tasks FROM clients") == [(NOON + SECOND, why.value, "[1,2]")]


@pytest.mark.parametrize("why", KILLED)
def test_a_death_costs_each_task_a_try_and_no_wait(stage: Stage, why: Why) -> None:
    """The next client can have them at once, and they remember who was lost with them."""
    first, _ = stage.start(ADD, ADD)
    stage.wait(1)
    receipt = stage.leave(first.client_id, why)
    task = stage.task(1)

    assert receipt.left == [Left(first.client_id, "w1", why, 2)]
    assert receipt.retried == [Retried(id, "add", 1, 1, "died", f"ClientDied: client w1: {why}", None) for id in (1, 2)]
    assert (task.state, task.retry_count, task.last_retry_at) == ("pending", 1, NOON + SECOND)
    assert task.failure == Failure("ClientDied", f"client w1: {why}")
    assert stage.sql("SELECT outcome, finished_at FROM assignments") == [("died", NOON + SECOND)] * 2
    assert [one.retry_count for one in stage.give(stage.join("w2").client_id)] == [1, 1]


def test_the_third_death_is_the_end(stage: Stage) -> None:
    """A task that kills its clients does not go on for ever."""
    stage.submit(ADD)
    receipts = []
    for name in ("w1", "w2", "w3"):
        client = stage.join(name).client_id
        stage.give(client)
        receipts.append(stage.leave(client, Why.SILENT))

    assert [receipt.ended for receipt in receipts] == [
        [],
        [],
        [Ended(1, "add", State.DEAD, failure=Failure("ClientDied", "client w3: silent"))],
    ]
    assert (stage.task(1).state, stage.task(1).retry_count) == ("dead", 3)
    assert stage.sql("SELECT reason, error FROM dead_letters") == [("died", "ClientDied: client w3: silent")]
    assert [(line["reason"], line["client"], line["retry_count"]) for line in stage.audit()] == [("died", "w3", 3)]


def test_deaths_and_failures_add_up(stage: Stage) -> None:
    """Two deaths and a failure are three lost tries."""
    stage.submit(ADD)
    for name in ("w1", "w2"):
        client = stage.join(name).client_id
        stage.give(client)
        stage.leave(client, Why.CONNECTION_LOST)
    (assigned,) = stage.give(stage.join("w3").client_id)

    assert stage.report(assigned, HOPELESS).state == "dead"
    assert stage.task(1).retry_count == 3


def test_only_what_the_client_still_holds_is_taken_back(stage: Stage) -> None:
    """What it has finished is finished, and what others hold is theirs."""
    done, failed, held = stage.start(ADD, ADD, ADD)
    stage.report(done, OK)
    stage.report(failed, HOPELESS)
    stage.submit(ADD)
    stage.give(stage.join("w2").client_id)
    receipt = stage.leave(held.client_id, Why.SILENT)

    assert receipt.left[0].tasks == 1
    assert stage.states(1, 2, 3, 4) == ["completed", "dead", "pending", "assigned"]


def test_a_result_that_comes_with_the_death_counts(stage: Stage) -> None:
    """Reports of a batch come before its departures: what was said in time is heard."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(
        Batch(reports=[report(assigned, OK)], departures=[Departure(assigned.client_id, Why.CONNECTION_LOST)])
    )

    assert receipt.reports == [Verdict(accepted=True, state="completed")]
    assert receipt.left[0].tasks == 0


def test_who_has_left_does_not_leave_again(stage: Stage) -> None:
    """The first word stands, and nobody is told twice."""
    client = stage.join().client_id
    stage.leave(client, Why.SILENT)
    stage.wait(1)
    receipt = stage.leave(client, Why.GOODBYE)

    assert receipt.left == []
    assert stage.sql("SELECT left_at, why FROM clients") == [(NOON, "silent")]


def test_a_client_with_many_tasks_is_remembered_by_some_of_them(stage: Stage) -> None:
    """All are taken back; the list for people is short."""
    assigned = stage.start(*[ADD] * 150)
    receipt = stage.leave(assigned[0].client_id, Why.SILENT)
    ((named,),) = stage.sql("SELECT json_array_length(left_tasks) FROM clients")

    assert receipt.left[0].tasks == len(receipt.retried) == 150
    assert named == 100


# --- coming back -----------------------------------------------------------------------------------------------


def test_who_names_its_assignments_keeps_them(stage: Stage) -> None:
    """On the new connection, under the new number; the old one is gone, without blame."""
    held = stage.start(ADD, ADD)
    back = stage.join(resume=[one.assignment_id for one in held])
    receipt = stage.apply(Batch(reports=[report(held[0], OK, client_id=back.client_id)]))

    assert back == Registered(2, resumed=((1, 1), (2, 2)), earlier=(1,))
    assert receipt.reports == [Verdict(accepted=True, state="completed")]
    assert stage.states(2) == ["assigned"]
    assert stage.task(2).retry_count == 0
    assert stage.sql("SELECT id, left_at, why FROM clients") == [(1, NOON, "came back"), (2, None, None)]


def test_the_old_connection_has_nothing_left_to_report(stage: Stage) -> None:
    """Until it is repeated by name: an unfinished task is the new connection's alone."""
    (held,) = stage.start(ADD)
    stage.join(resume=[held.assignment_id])
    verdict = stage.report(held, OK)

    assert not verdict.accepted
    assert stage.states(1) == ["assigned"]


def test_what_it_does_not_name_never_reached_it(stage: Stage) -> None:
    """It is released without blame, and the new connection can have it at once."""
    stage.start(ADD, ADD, ADD)
    back = stage.join(resume=[2])

    assert back == Registered(2, resumed=((2, 2),), earlier=(1,))
    assert stage.states(1, 2, 3) == ["pending", "assigned", "pending"]
    assert [stage.task(id).retry_count for id in (1, 2, 3)] == [0, 0, 0]
    assert [one.task_id for one in stage.give(back.client_id)] == [1, 3]


def test_what_has_ended_meanwhile_is_lost(stage: Stage) -> None:
    """Finished by itself, taken back, or never its own: it need not go on with these."""
    done, _, given_away = stage.start(ADD, ADD, ADD)
    stage.report(done, OK)
    stage.apply(Batch(departures=[Departure(given_away.client_id, Why.CONNECTION_LOST)]))
    back = stage.join(resume=[1, 3, 99, 2, 99])

    assert back == Registered(2, resumed=(), lost=(1, 3, 99, 2), earlier=(1,))
    assert stage.states(1, 2, 3) == ["completed", "pending", "pending"]


def test_a_client_that_came_back_too_late_is_not_seen_off_twice(stage: Stage) -> None:
    """It was counted as dead, and is not told to have left once more."""
    (held,) = stage.start(ADD)
    stage.leave(held.client_id, Why.CONNECTION_LOST)
    newcomer = Registration("w1", "", ("add",), 1, resume=(held.assignment_id,))
    receipt = stage.apply(Batch(registrations=[newcomer]))

    assert receipt.left == []
    assert stage.sql("SELECT why FROM clients WHERE id = 1") == [("connection lost",)]


def test_a_client_that_comes_back_as_its_time_runs_out_is_back(stage: Stage) -> None:
    """Both in one batch: it leaves once, alive, and keeps what it named."""
    (held,) = stage.start(ADD)
    receipt = stage.apply(
        Batch(
            registrations=[Registration("w1", "", ("add",), 1, resume=(held.assignment_id,))],
            departures=[Departure(held.client_id, Why.CONNECTION_LOST)],
        )
    )

    assert receipt.left == [Left(1, "w1", Why.CAME_BACK, 0)]
    assert (stage.task(1).state, stage.task(1).retry_count) == ("assigned", 0)


def test_the_same_process_is_back_with_nothing_in_its_hands(stage: Stage) -> None:
    """What was on its way to it never reached it: it costs nobody a retry, and waits for no deadline."""
    first = stage.join(instance="p1").client_id
    stage.submit(ADD, ADD)
    stage.give(first)
    back = stage.join(instance="p1")

    assert back == Registered(2, earlier=(first,))
    assert stage.states(1, 2) == ["pending", "pending"]
    assert [stage.task(id).retry_count for id in (1, 2)] == [0, 0]
    assert stage.sql("SELECT why FROM clients WHERE id = 1") == [("came back",)]


def test_the_same_process_keeps_what_it_names(stage: Stage) -> None:
    """And only that."""
    first = stage.join(instance="p1").client_id
    stage.submit(ADD, ADD)
    _, second = stage.give(first)
    back = stage.join(instance="p1", resume=[second.assignment_id])

    assert back == Registered(2, resumed=((second.assignment_id, 2),), earlier=(first,))
    assert stage.states(1, 2) == ["pending", "assigned"]


def test_another_process_of_the_same_name_takes_nothing(stage: Stage) -> None:
    """Neither by its name nor by the numbers that it gives."""
    first = stage.join(instance="p1").client_id
    stage.submit(ADD)
    (held,) = stage.give(first)
    others = [stage.join(instance=instance, resume=[held.assignment_id]) for instance in ("p2", None)]

    assert others == [Registered(2, lost=(held.assignment_id,)), Registered(3, lost=(held.assignment_id,))]
    assert stage.states(1) == ["assigned"]
    assert stage.sql("SELECT left_at FROM clients WHERE id = 1") == [(None,)]


def test_a_process_that_counts_as_dead_is_not_seen_off_again(stage: Stage) -> None:
    """It comes back too late, and begins anew."""
    first = stage.join(instance="p1").client_id
    stage.leave(first, Why.SILENT)

    assert stage.join(instance="p1") == Registered(2)
    assert stage.sql("SELECT why FROM clients WHERE id = 1") == [("silent",)]


def test_a_client_that_nobody_replaced_is_dead(stage: Stage) -> None:
    """With nothing in its hands too: another of its name is not it."""
    lost = stage.join("w1").client_id
    stage.join("w1")
    receipt = stage.leave(lost, Why.CONNECTION_LOST)

    assert receipt.left == [Left(lost, "w1", Why.CONNECTION_LOST, 0)]


def test_nobody_takes_anothers_work_by_its_number(stage: Stage) -> None:
    """The name has to fit; the holder is not disturbed."""
    (held,) = stage.start(ADD)
    thief = stage.join("w2", resume=[held.assignment_id])

    assert thief == Registered(2, lost=(1,))
    assert stage.report(held, OK) == Verdict(accepted=True, state="completed")
    assert stage.sql("SELECT left_at FROM clients") == [(None,), (None,)]


def test_a_client_that_resumes_nothing_is_a_new_one(stage: Stage) -> None:
    """Of the same name or not: two clients may share one, and the first keeps what it holds."""
    (held,) = stage.start(ADD)
    other = stage.join("w1")

    assert other == Registered(2)
    assert stage.report(held, OK) == Verdict(accepted=True, state="completed")


def test_work_of_several_earlier_connections_comes_together(stage: Stage) -> None:
    """A client that lost its connection twice holds tasks under two numbers."""
    (first,) = stage.start(ADD)
    second = stage.join().client_id
    stage.submit(ADD, ADD)
    stage.give(second)
    back = stage.join(resume=[first.assignment_id, 2])

    assert back == Registered(3, resumed=((1, 1), (2, 2)), earlier=(1, 2))
    assert stage.states(1, 2, 3) == ["assigned", "assigned", "pending"]


def test_what_was_resumed_can_be_lost_by_a_death_like_everything_else(stage: Stage) -> None:
    """The new connection answers for it."""
    (held,) = stage.start(ADD)
    back = stage.join(resume=[held.assignment_id])
    receipt = stage.leave(back.client_id, Why.SILENT)

    assert [(one.task_id, one.client_id, one.retry_count) for one in receipt.retried] == [(1, 2, 1)]


def test_work_survives_a_restart_of_the_store(stage: Stage) -> None:
    """The server was away, the client was not: it names what it holds, and a restart costs nothing."""
    (held,) = stage.start(ADD)
    stage.reopen()
    back = stage.join(resume=[held.assignment_id])
    receipt = stage.apply(Batch(reports=[report(held, OK, client_id=back.client_id)]))

    assert back.resumed == ((1, 1),)
    assert receipt.reports == [Verdict(accepted=True, state="completed")]
