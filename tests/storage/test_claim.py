"""Pending tasks go to clients with room: the right ones, in the right order, and not too many at once."""

from __future__ import annotations

import pytest

from dtm.core.balance import Seat
from dtm.storage.batch import Batch, Departure, NewTask, Registration, Submission, Why
from dtm.storage.claim import MAX_ASSIGNED, MAX_ASSIGNED_CHARACTERS, MAX_DUE
from dtm.storage.receipt import Assigned
from tests.storage.stage import NOON, OK, SECOND, Stage, report, seat

ADD = NewTask("add", "1")


def ids(assigned: list[Assigned]) -> list[int]:
    """Give the tasks' ids."""
    return [one.task_id for one in assigned]


def test_a_client_gets_everything_it_needs_to_run_a_task(stage: Stage) -> None:
    """And the store notes who has it since when."""
    (id,) = stage.submit(NewTask("add", '{"a": 1}', timeout=SECOND))
    client = stage.join().client_id
    stage.wait(1)

    assert stage.give(client) == [Assigned(client, 1, id, "add", '{"a": 1}', 0, SECOND)]
    assert stage.states(id) == ["assigned"]
    assert stage.task(id).assignment_id == 1
    assert stage.sql("SELECT id, task_id, client_id, assigned_at, finished_at FROM assignments") == [
        (1, id, client, NOON + SECOND, None)
    ]


def test_higher_priorities_go_first_and_then_the_older(stage: Stage) -> None:
    """Whatever order they came in."""
    stage.submit(*[NewTask("add", "1", priority=priority) for priority in (0, 5, -5, 5, 2**62, 0, -(2**62))])
    client = stage.join().client_id

    assert ids(stage.give(client, free=3)) == [5, 2, 4]
    assert ids(stage.give(client, free=99)) == [1, 6, 3, 7]


def test_the_order_holds_over_all_kinds_of_a_client(stage: Stage) -> None:
    """One queue by priority and age, not one a kind."""
    stage.submit(
        *[NewTask(kind, "1", priority=priority) for kind, priority in zip("abcab", (1, 3, 2, 3, 0), strict=True)]
    )
    client = stage.join(kinds=("a", "b", "c")).client_id

    assert ids(stage.give(client, "a", "b", "c", free=4)) == [2, 4, 3, 1]


def test_a_kind_that_nobody_runs_waits(stage: Stage) -> None:
    """It stands in nobody's way, however urgent it is."""
    stage.submit(NewTask("mul", "1", priority=9), ADD)

    assert ids(stage.give(stage.join().client_id)) == [2]
    assert stage.states(1) == ["pending"]


def test_nobody_gets_more_than_it_has_room_for(stage: Stage) -> None:
    """What is left waits for the next free place."""
    stage.submit(*[ADD] * 5)
    client = stage.join().client_id

    assert ids(stage.give(client, free=2)) == [1, 2]
    assert ids(stage.give(client, free=0)) == []
    assert ids(stage.give(client, free=2)) == [3, 4]


def test_clients_with_different_kinds_share_what_both_run(stage: Stage) -> None:
    """Each gets only what it runs, and all of it is given out in one transaction."""
    stage.submit(*[NewTask(kind, "1") for kind in ("a", "b", "ab", "ab", "a", "b")])
    one, other = stage.join("w1").client_id, stage.join("w2").client_id
    assigned = stage.apply(Batch(seats=[seat(one, "a", "ab", free=3), seat(other, "b", "ab", free=3)])).assigned
    got = {client: {task.kind for task in assigned if task.client_id == client} for client in (one, other)}

    assert got == {one: {"a", "ab"}, other: {"b", "ab"}}
    assert sorted(ids(assigned)) == [1, 2, 3, 4, 5, 6]


def test_nobody_idles_while_others_have_more_than_they_can_take(stage: Stage) -> None:
    """Tasks of one client's many kinds come first, more than it has room for; the other's kind is still found."""
    stage.submit(*[NewTask(kind, "1") for kind in ("a", "b", "c") for _ in range(3)])
    many, one = stage.join(kinds=("a", "b")).client_id, stage.join(kinds=("c",)).client_id
    assigned = stage.apply(Batch(seats=[seat(many, "a", "b", free=3), seat(one, "c", free=3)])).assigned

    assert [(task.client_id, task.kind) for task in assigned] == [(many, "a")] * 3 + [(one, "c")] * 3


def test_two_clients_of_the_same_kinds_fill_up_together(stage: Stage) -> None:
    """With all that comes first, over all kinds."""
    stage.submit(*[NewTask(kind, "1") for kind in "abababab"])
    clients = [stage.join(kinds=("a", "b")).client_id for _ in range(2)]
    assigned = stage.apply(Batch(seats=[seat(client, "a", "b", free=3) for client in clients])).assigned

    assert ids(assigned) == [1, 2, 3, 4, 5, 6]


def test_a_task_that_comes_in_meets_a_free_client_in_the_same_transaction(stage: Stage) -> None:
    """One trip to the disk for both."""
    client = stage.join().client_id
    receipt = stage.apply(Batch(submissions=[Submission((ADD,))], seats=[seat(client)]))

    assert ids(receipt.assigned) == [1]
    assert not receipt.may_have_more


def test_a_task_that_falls_due_meets_a_free_client_in_the_same_transaction(stage: Stage) -> None:
    """It need not be seen twice."""
    stage.submit(NewTask("add", "1", delay=SECOND))
    client = stage.join().client_id
    stage.wait(1)

    assert ids(stage.give(client)) == [1]


def test_a_result_frees_its_place_in_the_same_transaction(stage: Stage) -> None:
    """A client that reports gets its next task by the same commit."""
    first, _ = stage.start(ADD, ADD)
    stage.submit(ADD)
    receipt = stage.apply(Batch(reports=[report(first, OK)], seats=[seat(first.client_id, free=1)]))

    assert ids(receipt.assigned) == [3]


def test_a_client_that_leaves_gets_nothing_by_the_same_transaction(stage: Stage) -> None:
    """Nobody would take back what it got after its departure, neither of a death nor of a new connection."""
    one, other = stage.start(ADD, ADD)[0].client_id, stage.join("w2").client_id
    stage.submit(*[ADD] * 4)
    receipt = stage.apply(
        Batch(
            registrations=[Registration("w1", "", ("add",), 10, resume=(1,))],
            departures=[Departure(other, Why.SILENT)],
            seats=[seat(one), seat(other)],
        )
    )

    assert receipt.assigned == []
    assert {left.client_id for left in receipt.left} == {one, other}


def test_assignments_are_numbered_for_ever(stage: Stage) -> None:
    """Each attempt has a number of its own, in the order in which they are given."""
    stage.submit(ADD, ADD)
    numbers = []
    for _ in range(3):
        client = stage.join().client_id
        numbers += [one.assignment_id for one in stage.give(client)]
        stage.leave(client, Why.GOODBYE)

    assert numbers == [1, 2, 3, 4, 5, 6]


def test_without_anybody_to_give_to_nothing_is_looked_for(stage: Stage) -> None:
    """No seats, no free ones, none with a kind."""
    stage.submit(ADD)
    client = stage.join().client_id
    for seats in ([], [seat(client, free=0)], [Seat(client, frozenset(), held=0, free=9)]):
        receipt = stage.apply(Batch(seats=seats))

        assert (receipt.assigned, receipt.may_have_more) == ([], False)


# --- bounds ----------------------------------------------------------------------------------------------------


def test_one_transaction_gives_out_a_bounded_number(stage: Stage) -> None:
    """No commit waits for a flood; it says that there may be more, and the next one goes on in order."""
    stage.submit(*[ADD] * (MAX_ASSIGNED + 1))
    client = stage.join().client_id
    first = stage.apply(Batch(seats=[seat(client, free=9_999)]))
    second = stage.apply(Batch(seats=[seat(client, free=9_999)]))

    assert ids(first.assigned) == list(range(1, MAX_ASSIGNED + 1))
    assert first.may_have_more
    assert ids(second.assigned) == [MAX_ASSIGNED + 1]
    assert not second.may_have_more


def test_the_bound_keeps_the_order_over_all_kinds(stage: Stage) -> None:
    """What is left over is the last of the queue, of whatever kind."""
    stage.submit(*[NewTask("a", "1")] * 1_500, *[NewTask("b", "1", priority=1)] * 1_500)
    client = stage.join().client_id
    receipt = stage.apply(Batch(seats=[seat(client, "a", "b", free=9_999)]))

    assert ids(receipt.assigned) == [*range(1_501, 3_001), *range(1, 501)]
    assert receipt.may_have_more


def test_one_transaction_reads_a_bounded_amount_of_payload(stage: Stage) -> None:
    """The urgent ones go first here too; what is over the bound stays pending for the next transaction."""
    large = '"' + "x" * (MAX_ASSIGNED_CHARACTERS // 4) + '"'
    stage.submit(*[NewTask("add", large, priority=priority) for priority in range(6)])
    client = stage.join().client_id
    first = stage.apply(Batch(seats=[seat(client)]))
    second = stage.apply(Batch(seats=[seat(client)]))

    assert ids(first.assigned) == [6, 5, 4, 3]
    assert first.may_have_more
    assert ids(second.assigned) == [2, 1]
    assert not second.may_have_more


def test_a_payload_larger_than_the_bound_is_given_out_all_the_same(stage: Stage) -> None:
    """Alone, and it does not stop the queue."""
    stage.submit(NewTask("add", '"' + "x" * MAX_ASSIGNED_CHARACTERS + '"'), ADD)
    client = stage.join().client_id

    assert ids(stage.give(client)) == [1]
    assert ids(stage.give(client)) == [2]


def test_one_transaction_lets_a_bounded_number_fall_due(stage: Stage) -> None:
    """The earliest first; the rest is announced as due, and follows."""
    stage.submit(*[NewTask("add", "1", delay=MAX_DUE + 1 - number) for number in range(MAX_DUE + 1)])
    stage.wait(1)
    first = stage.apply(Batch())
    left = stage.states(1, 2)
    second = stage.apply(Batch())

    assert first.may_have_more
    assert first.next_due_at == NOON + MAX_DUE + 1
    assert left == ["scheduled", "pending"]
    assert (second.may_have_more, second.next_due_at) == (False, None)
    assert stage.sql("SELECT state, count(*) FROM tasks GROUP BY state") == [("pending", MAX_DUE + 1)]


def test_any_number_of_kinds_takes_a_handful_of_statements(stage: Stage) -> None:
    """A statement for each number of kinds that clients ever had would fill the memory: each takes megabytes."""
    names = [f"k{number}" for number in range(70)]
    stage.submit(*[NewTask(name, "1") for name in names])
    client = stage.join().client_id
    compiled = stage.store._prepared._compiled
    before = len(compiled)
    for kinds in range(1, 71):
        stage.apply(Batch(seats=[seat(client, *names[:kinds], free=1)]))

    assert len(compiled) - before <= 12
    assert stage.sql("SELECT count(*) FROM tasks WHERE state = 'pending'") == [(0,)]


@pytest.mark.parametrize("kinds", [249, 250, 251, 499, 500, 501, 1_000, 2_500])
def test_clients_may_run_any_number_of_kinds(stage: Stage, kinds: int) -> None:
    """More than SQLite joins in one statement, and still one queue."""
    names = [f"k{number}" for number in range(kinds)]
    stage.submit(*[NewTask(name, "1", priority=number % 7) for number, name in enumerate(names)])
    client = stage.join().client_id
    assigned = stage.apply(Batch(seats=[seat(client, *names, free=kinds)])).assigned

    assert ids(assigned) == sorted(range(1, kinds + 1), key=lambda id: (-((id - 1) % 7), id))[:MAX_ASSIGNED]
