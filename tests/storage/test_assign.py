"""A task that was just taken may be given out at once, but never before one that stood in the queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dtm.core.balance import Seat
from dtm.core.lifecycle import State
from dtm.storage.batch import Batch, NewTask, Released, Report, Reprocess, Selection, Submission, Why
from dtm.storage.claim import MAX_ASSIGNED, MAX_ASSIGNED_CHARACTERS
from dtm.storage.receipt import Receipt
from tests.storage.stage import FAILED, HOPELESS, OK, SECOND, Stage, report, seat, what_is_wrong

ADD = NewTask("add", "1")


def meet(stage: Stage, tasks: Sequence[NewTask], *seats: Seat) -> Receipt:
    """Let tasks come in while clients have room."""
    return stage.apply(Batch(submissions=[Submission(tuple(tasks))] if tasks else [], seats=list(seats)))


def ids(receipt: Receipt) -> list[int]:
    """Give the tasks that were given out."""
    return [one.task_id for one in receipt.assigned]


def test_what_is_given_out_at_once_stands_in_every_table_as_if_it_had_waited(stage: Stage) -> None:
    """The task, its assignment, the counts; and its result is accepted."""
    client = stage.join().client_id
    (given,) = meet(stage, [NewTask("add", '{"a": 1}', timeout=SECOND)], seat(client)).assigned

    assert (given.client_id, given.payload, given.retry_count, given.timeout) == (client, '{"a": 1}', 0, SECOND)
    assert stage.task(1).assignment_id == given.assignment_id
    assert stage.store.next_deadline_at == stage.task(1).deadline_at == stage.now + SECOND
    assert stage.sql("SELECT id, task_id, client_id FROM assignments") == [(given.assignment_id, 1, client)]
    assert stage.sql("SELECT state, tasks FROM counts WHERE tasks") == [("assigned", 1)]
    assert stage.report(given, OK).accepted
    assert what_is_wrong(stage.path) == {}


def test_among_new_tasks_the_urgent_go_first(stage: Stage) -> None:
    """Whatever their order in the submission; the rest waits, in order."""
    client = stage.join().client_id
    tasks = [NewTask("add", "1", priority=priority) for priority in (0, 5, 0, 9)]

    assert ids(meet(stage, tasks, seat(client, free=2))) == [4, 2]
    assert ids(meet(stage, [], seat(client))) == [1, 3]


def test_what_stood_in_the_queue_goes_before_what_comes(stage: Stage) -> None:
    """The same transaction finds both."""
    stage.submit(ADD, ADD)
    client = stage.join().client_id

    assert ids(meet(stage, [ADD], seat(client, free=1))) == [1]
    assert ids(meet(stage, [NewTask("add", "1", priority=1), ADD], seat(client, free=2))) == [4, 2]
    assert ids(meet(stage, [], seat(client))) == [3, 5]


def test_a_queue_of_another_kind_is_in_nobodys_way(stage: Stage) -> None:
    """Only who may run it has to look there."""
    stage.submit(NewTask("mul", "1", priority=9))
    client = stage.join().client_id

    assert ids(meet(stage, [ADD, NewTask("mul", "1")], seat(client))) == [2]
    assert ids(meet(stage, [ADD], seat(client, "add", "mul", free=2))) == [1, 3]
    assert ids(meet(stage, [], seat(client, "add", "mul"))) == [4]


def test_new_tasks_for_clients_of_several_kinds(stage: Stage) -> None:
    """Each client gets what it runs, as far as it has room."""
    one, other = stage.join("w1").client_id, stage.join("w2").client_id
    tasks = [NewTask(kind, "1") for kind in ("a", "b", "a", "b", "c")]
    receipt = meet(stage, tasks, seat(one, "a", free=1), seat(other, "b"))

    assert [(given.task_id, given.client_id) for given in receipt.assigned] == [(1, one), (2, other), (4, other)]
    assert stage.states(3, 5) == ["pending", "pending"]
    assert ids(meet(stage, [], seat(one, "a", "c"))) == [3, 5]


@pytest.mark.parametrize("way", ["release", "death", "backoff", "reprocess", "delay", "retry", "restart"])
def test_a_queue_that_ran_dry_is_looked_at_again_once_something_is_in_it(stage: Stage, way: str) -> None:
    """However a task becomes pending, and before any that comes with it."""
    client = stage.join().client_id
    (given,) = meet(stage, [ADD], seat(client)).assigned
    assert ids(meet(stage, [], seat(client))) == []
    reports: list[Report] = []
    match way:
        case "release":
            reports = [report(given, Released())]
        case "death":
            stage.leave(client, Why.SILENT)
        case "backoff":
            stage.report(given, FAILED)
            stage.wait(60)
        case "retry":
            stage.report(given, FAILED)
            stage.submit(ADD)
            stage.wait(60)
        case "reprocess":
            stage.report(given, HOPELESS)
            stage.settle(Reprocess(Selection((1,)), limit=9))
        case "delay":
            stage.report(given, OK)
            stage.submit(NewTask("add", "1", delay=SECOND))
            stage.wait(1)
        case "restart":
            stage.report(given, Released())
            stage.reopen()
    new = stage.join("w2").client_id
    receipt = stage.apply(
        Batch(reports=reports, submissions=[Submission((NewTask("add", "1", priority=-1),))], seats=[seat(new, free=9)])
    )
    waited = {"delay": [2], "retry": [1, 2]}.get(way, [1])

    assert ids(receipt) == [*waited, max(waited) + 1]


def test_a_kind_of_which_only_a_part_was_taken_is_looked_at_again(stage: Stage) -> None:
    """A look that was bounded, by room or by size, has not seen the end of the queue."""
    large = '"' + "x" * (MAX_ASSIGNED_CHARACTERS // 2) + '"'
    stage.submit(ADD, ADD, *[NewTask("mul", large)] * 4)
    client = stage.join().client_id

    assert ids(meet(stage, [], seat(client, free=1))) == [1]
    assert ids(meet(stage, [], seat(client, free=1))) == [2]
    assert ids(meet(stage, [], seat(client, "mul"))) == [3, 4]
    assert ids(meet(stage, [], seat(client, "mul"))) == [5, 6]
    assert ids(meet(stage, [], seat(client, "add", "mul"))) == []


def test_a_client_without_room_for_a_kind_leaves_its_queue_as_it_is(stage: Stage) -> None:
    """What nobody could take is still there for the next."""
    stage.submit(*[NewTask(kind, "1") for kind in "aab"])
    client = stage.join().client_id

    assert ids(meet(stage, [], seat(client, "a", "b", free=1))) == [1]
    assert ids(meet(stage, [], seat(client, "a", "b", free=1))) == [2]
    assert ids(meet(stage, [], seat(client, "a", "b", free=1))) == [3]


def test_each_client_s_room_bounds_the_look_at_its_kinds(stage: Stage) -> None:
    """A kind of which as many were found as were looked for may have more."""
    stage.submit(*[NewTask(kind, "1") for kind in "aabb"])
    one, other = stage.join("w1").client_id, stage.join("w2").client_id
    seats = [seat(one, "a", free=1), seat(other, "b", free=1)]

    assert ids(meet(stage, [], *seats)) == [1, 3]
    assert ids(meet(stage, [], *seats)) == [2, 4]


def test_what_is_over_the_bound_of_many_kinds_is_found_later(stage: Stage) -> None:
    """Kinds are looked at in groups, and the bound holds over all of them."""
    names = [f"k{number:03}" for number in range(300)]
    stage.submit(*[NewTask(name, "1", priority=-number) for number, name in enumerate(names) for _ in range(10)])
    client = stage.join().client_id
    given = [ids(meet(stage, [], seat(client, *names, free=9_999))) for _ in range(2)]

    assert given == [list(range(1, MAX_ASSIGNED + 1)), list(range(MAX_ASSIGNED + 1, 3_001))]


def test_a_bounded_number_is_given_out_at_once(stage: Stage) -> None:
    """And a bounded size; the rest waits for the next transaction, which is asked for."""
    client = stage.join().client_id
    first = meet(stage, [ADD] * (MAX_ASSIGNED + 1), seat(client, free=9_999))
    assert (ids(first), first.may_have_more) == (list(range(1, MAX_ASSIGNED + 1)), True)
    assert ids(meet(stage, [], seat(client))) == [MAX_ASSIGNED + 1]

    large = NewTask("add", '"' + "x" * (MAX_ASSIGNED_CHARACTERS // 2) + '"')
    second = meet(stage, [large] * 3, seat(client))
    assert (len(second.assigned), second.may_have_more) == (2, True)
    assert len(meet(stage, [], seat(client)).assigned) == 1


def test_what_has_expired_as_it_comes_is_not_given_out(stage: Stage) -> None:
    """It was to be begun before now."""
    client = stage.join().client_id
    receipt = meet(stage, [NewTask("add", "1", expires_at=stage.now), NewTask("add", "1", expires=1)], seat(client))

    assert ids(receipt) == [2]


def test_a_task_for_later_is_not_forgotten_when_another_falls_due_with_its_coming(stage: Stage) -> None:
    """The next instant is that of all scheduled tasks, also of those that the same transaction brings."""
    stage.submit(NewTask("add", "1", delay=SECOND))
    stage.wait(1)
    receipt = stage.apply(Batch(submissions=[Submission((NewTask("add", "1", delay=SECOND),))]))

    assert receipt.next_due_at == stage.now + SECOND
    assert stage.states(1, 2) == [State.PENDING, State.SCHEDULED]


def test_with_nothing_in_the_queue_nothing_is_looked_for(stage: Stage) -> None:
    """A client that only reports costs no look at the queues of its kinds, once they were found empty."""
    stage.submit(ADD)
    client = stage.join().client_id
    (given,) = meet(stage, [], seat(client)).assigned
    looks: list[str] = []
    driver = stage.store._connection.connection.driver_connection
    assert driver is not None
    driver.set_trace_callback(looks.append)
    stage.apply(Batch(reports=[report(given, OK)], seats=[seat(client)]))
    driver.set_trace_callback(None)

    assert [look for look in looks if "heads" in look] == []
    assert looks[-1] == "COMMIT"
