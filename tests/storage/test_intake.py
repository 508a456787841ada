"""Submissions: numbered in order, all or none of them, and one task a key."""

from __future__ import annotations

import pytest

from dtm.storage.batch import Batch, Failed, NewTask, Selection, Submission
from dtm.storage.batch import Clear as ClearLetters
from dtm.storage.receipt import Cause, Refused, Submitted
from dtm.storage.sql import LONG
from tests.storage.stage import BACKOFF, BOOM, HOPELESS, NOON, OK, SECOND, Stage

ADD = NewTask("add", "1")


def test_ids_come_in_the_order_of_the_tasks(stage: Stage) -> None:
    """Over all submissions of a batch, and on from batch to batch."""
    receipt = stage.apply(Batch(submissions=[Submission((ADD, ADD)), Submission((ADD,))]))

    assert receipt.submissions == [Submitted([1, 2], []), Submitted([3], [])]
    assert stage.submit(ADD, ADD) == [4, 5]


def test_a_task_is_kept_as_it_was_submitted(stage: Stage) -> None:
    """Every field, and the payload to the letter."""
    payload = '{"a": [1.10, "\\u0000\\n",  null], "é": "\U0001f4a3\u2028"}'
    (id,) = stage.submit(NewTask("add", payload, "k1", priority=-7, max_retries=9, timeout=1_500_000))
    task = stage.task(id)

    assert (task.kind, task.payload, task.key, task.priority) == ("add", payload, "k1", -7)
    assert (task.max_retries, task.timeout, task.created_at) == (9, 1_500_000, NOON)
    assert (task.state, task.retry_count, task.run_at, task.finished_at) == ("pending", 0, None, None)
    assert (task.result, task.failure, task.assignment_id, task.last_retry_at) == (None, None, None, None)


def test_what_a_task_leaves_open_the_server_decides(stage: Stage) -> None:
    """The number of tries is the server's default, and there is no limit of time."""
    (id,) = stage.submit(ADD)

    assert (stage.task(id).max_retries, stage.task(id).timeout, stage.task(id).priority) == (3, None, 0)


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**63 - 1])
def test_every_number_of_64_bits_is_kept(stage: Stage, number: int) -> None:
    """No bound between the wire's and the file's loses one."""
    (id,) = stage.submit(NewTask("add", "1", priority=number))

    assert stage.task(id).priority == number


@pytest.mark.parametrize("others", [(), (0,), (1,), (0, 1)], ids=["nothing", "kind", "priority", "both"])
def test_tasks_that_come_together_keep_what_each_has_of_its_own(stage: Stage, others: tuple[int, ...]) -> None:
    """Whatever they differ in, and beside one whose payload is long."""
    kinds, priorities = ("ab" if 0 in others else "aa"), ((1, 2) if 1 in others else (1, 1))
    tasks = [
        NewTask(kind, f'"{number}{"x" * size}"', f"k{number}", priority=priority, max_retries=5)
        for number, (kind, priority, size) in enumerate(
            [(kinds[0], priorities[0], 1), (kinds[1], priorities[1], 1), (kinds[0], priorities[0], 2 * LONG)]
        )
    ]
    ids = stage.submit(*tasks)
    kept = [stage.task(id) for id in ids]

    assert [(task.kind, task.payload, task.key, task.priority, task.max_retries) for task in kept] == [
        (task.kind, task.payload, task.key, task.priority, task.max_retries) for task in tasks
    ]


# --- not yet ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "run_at"),
    [
        (NewTask("add", "1", delay=5 * SECOND), NOON + 5 * SECOND),
        (NewTask("add", "1", run_at=NOON + 5 * SECOND), NOON + 5 * SECOND),
        (NewTask("add", "1", delay=1), NOON + 1),
    ],
    ids=["delay", "instant", "a microsecond"],
)
def test_a_task_for_later_is_scheduled(stage: Stage, task: NewTask, run_at: int) -> None:
    """It waits for its time, and the receipt says when that is."""
    receipt = stage.apply(Batch(submissions=[Submission((task,))]))

    assert receipt.next_due_at == run_at == stage.store.next_due_at
    assert (stage.task(1).state, stage.task(1).run_at) == ("scheduled", run_at)


@pytest.mark.parametrize(
    "task", [NewTask("add", "1", delay=0), NewTask("add", "1", run_at=NOON), NewTask("add", "1", run_at=0)]
)
def test_a_task_whose_time_has_come_is_pending_at_once(stage: Stage, task: NewTask) -> None:
    """An instant in the past is no reason to wait."""
    (id,) = stage.submit(task)

    assert stage.states(id) == ["pending"]
    assert stage.store.next_due_at is None


def test_a_scheduled_task_falls_due_at_its_instant(stage: Stage) -> None:
    """Not a microsecond before; then it is like any other."""
    stage.submit(NewTask("add", "1", delay=SECOND))
    client = stage.join().client_id
    stage.now = NOON + SECOND - 1
    early = stage.give(client)
    stage.now = NOON + SECOND
    due = stage.give(client)

    assert early == []
    assert [assigned.task_id for assigned in due] == [1]
    assert stage.store.next_due_at is None


def test_the_next_instant_is_always_the_nearest(stage: Stage) -> None:
    """Whoever waits for it must neither sleep too long nor wake for nothing."""
    seen = []
    for delay in (30, 10, 20):
        stage.submit(NewTask("add", "1", delay=delay * SECOND))
        seen.append(stage.store.next_due_at)
    for delay in (10, 20, 30):
        stage.now = NOON + delay * SECOND
        seen.append(stage.apply(Batch()).next_due_at)

    assert seen == [NOON + delay * SECOND for delay in (30, 10, 10, 20, 30)] + [None]
    assert stage.states(1, 2, 3) == ["pending"] * 3


def test_a_submission_that_is_refused_schedules_nothing(stage: Stage) -> None:
    """Neither the refused tasks nor their instants are left behind."""
    stage.submit(NewTask("add", "1", "k"))
    stage.offer(NewTask("add", "1", delay=SECOND), NewTask("add", "2", "k"))

    assert stage.store.next_due_at is None


# --- keys ------------------------------------------------------------------------------------------------------

KEYED = NewTask("add", '{"a": 1, "b": [2.5, "x", null]}', "k")
SAME = {
    "the same text": '{"a": 1, "b": [2.5, "x", null]}',
    "other blanks": ' {"a":1,\r\n"b" : [ 2.5,"x",null ]}\t',
    "another order": '{"b": [2.5, "x", null], "a": 1}',
    "other escapes": '{"\\u0061": 1, "b": [2.5, "\\u0078", null]}',
    "another notation of a number": '{"a": 1.0, "b": [25e-1, "x", null]}',
}
OTHER = {
    "another value": '{"a": 2, "b": [2.5, "x", null]}',
    "a text for a number": '{"a": "1", "b": [2.5, "x", null]}',
    "true for 1": '{"a": true, "b": [2.5, "x", null]}',
    "a field more": '{"a": 1, "b": [2.5, "x", null], "c": null}',
    "a field less": '{"b": [2.5, "x", null]}',
    "another order in a list": '{"a": 1, "b": ["x", 2.5, null]}',
    "an item more": '{"a": 1, "b": [2.5, "x", null, null]}',
    "an object for a list": '{"a": 1, "b": {"0": 2.5}}',
    "nothing": "null",
}


@pytest.mark.parametrize("payload", SAME.values(), ids=SAME.keys())
def test_a_key_that_is_known_gives_the_task_it_has(stage: Stage, payload: str) -> None:
    """However the same payload is written, it is the same task, and said to be."""
    stage.submit(ADD, KEYED)

    assert stage.offer(NewTask("add", payload, "k")) == Submitted([2], [2])
    assert stage.sql("SELECT count(*) FROM tasks") == [(2,)]


@pytest.mark.parametrize("payload", OTHER.values(), ids=OTHER.keys())
def test_a_key_does_not_stand_for_another_payload(stage: Stage, payload: str) -> None:
    """The submitter made a mistake, and hears which task the key belongs to."""
    stage.submit(KEYED)

    assert stage.offer(NewTask("add", payload, "k")) == Refused(
        "key 'k' already belongs to task 1 of kind 'add' with another kind or payload; use a new key for a new task",
        cause=Cause.KEY_CONFLICT,
    )
    assert stage.sql("SELECT count(*) FROM tasks") == [(1,)]


@pytest.mark.parametrize(("one", "other"), [("true", "1"), ("false", "0"), ("[0]", "[false]"), ("0", "null")])
def test_true_and_1_are_two_payloads(stage: Stage, one: str, other: str) -> None:
    """To Python they are equal; to whoever submits them they are not."""
    stage.submit(NewTask("add", one, "k"))

    assert isinstance(stage.offer(NewTask("add", other, "k")), Refused)


@pytest.mark.parametrize("payload", ["1e999", "[" * 3_000 + "]" * 3_000], ids=["too large a number", "too deep"])
def test_a_payload_that_python_cannot_read_is_known_by_its_text(stage: Stage, payload: str) -> None:
    """The same text is the same payload; of another nobody can say so, and the store goes on either way."""
    stage.submit(NewTask("add", payload, "k"))
    same, other = stage.offer(NewTask("add", payload, "k")), stage.offer(NewTask("add", payload + " ", "k"))

    assert same == Submitted([1], [1])
    assert isinstance(other, Refused)
    assert other.cause is Cause.KEY_CONFLICT
    assert stage.submit(ADD) == [2]


@pytest.mark.parametrize("size", [LONG - 1, LONG, LONG + 1])
def test_long_and_short_payloads_come_in_together(stage: Stage, size: int) -> None:
    """Each with its own fields, whichever way it takes into the store, in the order in which they came."""
    long = NewTask("long", f'"{"é" * (size - 2)}"', "k2", priority=2, delay=SECOND)
    ids = stage.submit(NewTask("short", "1", "k1"), long, NewTask("short", "3", "k3"))
    tasks = [stage.task(id) for id in ids]

    assert [(task.kind, task.payload, task.key) for task in tasks] == [
        ("short", "1", "k1"),
        ("long", long.payload, "k2"),
        ("short", "3", "k3"),
    ]
    assert (tasks[1].priority, tasks[1].state, tasks[1].run_at) == (2, "scheduled", NOON + SECOND)


def test_a_key_does_not_stand_for_another_kind(stage: Stage) -> None:
    """The kind is part of what is to be done."""
    stage.submit(KEYED)
    answer = stage.offer(NewTask("mul", KEYED.payload, "k"))

    assert isinstance(answer, Refused)
    assert answer.cause is Cause.KEY_CONFLICT


def test_a_key_meets_itself_within_a_submission(stage: Stage) -> None:
    """The second is a duplicate of the first, before anything is on disk."""
    assert stage.offer(KEYED, ADD, KEYED) == Submitted([1, 2, 1], [1])


def test_a_key_meets_itself_within_a_batch(stage: Stage) -> None:
    """Two producers at the same moment get one task."""
    receipt = stage.apply(Batch(submissions=[Submission((KEYED,)), Submission((ADD, KEYED))]))

    assert receipt.submissions == [Submitted([1], []), Submitted([2, 1], [1])]


def test_a_conflict_leaves_nothing_of_its_submission(stage: Stage) -> None:
    """All or none: neither its other tasks nor their keys are taken, and ids are not wasted."""
    receipt = stage.apply(
        Batch(
            submissions=[
                Submission((KEYED,)),
                Submission((ADD, NewTask("add", "1", "new"), NewTask("add", "2", "k"))),
                Submission((NewTask("add", "2", "new"),)),
            ]
        )
    )
    first, refused, last = receipt.submissions

    assert (first, last) == (Submitted([1], []), Submitted([2], []))
    assert isinstance(refused, Refused)
    assert stage.sql("SELECT id, key FROM tasks ORDER BY id") == [(1, "k"), (2, "new")]


def test_a_conflict_within_a_submission_refuses_it(stage: Stage) -> None:
    """A key for two payloads in one breath is a mistake too."""
    answer = stage.offer(NewTask("add", "1", "k"), NewTask("add", "2", "k"))

    assert isinstance(answer, Refused)
    assert stage.sql("SELECT count(*) FROM tasks") == [(0,)]


@pytest.mark.parametrize("end", [OK, HOPELESS, Failed(BOOM)], ids=["completed", "dead", "scheduled"])
def test_a_key_stays_with_its_task_through_its_life(stage: Stage, end: object) -> None:
    """Submitting again never runs a task again, whatever has become of it."""
    (assigned,) = stage.start(KEYED)
    stage.report(assigned, end)  # type: ignore[arg-type]
    state = stage.states(1)

    assert stage.offer(KEYED) == Submitted([1], [1])
    assert stage.states(1) == state


def test_a_key_is_free_again_once_its_task_was_cleared(stage: Stage) -> None:
    """An operator took the task away for good; what comes under its key is new."""
    stage.bury(KEYED)
    stage.settle(ClearLetters(Selection(everything=True), 10))

    assert stage.offer(KEYED) == Submitted([2], [])


@pytest.mark.parametrize("key", ["x" * 255, "é\u2028\n", "'; DROP TABLE tasks; --", "\\u0000", '"', "%"])
def test_a_key_is_any_text(stage: Stage, key: str) -> None:
    """It is found again as it was, and not taken for anything else."""
    task = NewTask("add", "1", key)

    assert stage.offer(task) == Submitted([1], [])
    assert stage.offer(task) == Submitted([1], [1])
    assert stage.task(1).key == key


def test_tasks_without_keys_are_never_duplicates(stage: Stage) -> None:
    """The same payload twice is two tasks."""
    assert stage.offer(ADD, ADD) == Submitted([1, 2], [])


def test_a_large_submission_is_taken_whole(stage: Stage) -> None:
    """As many tasks as one message may hold, each with a key."""
    tasks = [NewTask("add", str(number), f"k{number}") for number in range(10_000)]

    assert stage.offer(*tasks) == Submitted(list(range(1, 10_001)), [])
    assert stage.offer(*tasks) == Submitted(list(range(1, 10_001)), list(range(1, 10_001)))


def test_a_submission_of_nothing_is_nothing(stage: Stage) -> None:
    """No task, no id, no trace."""
    assert stage.offer() == Submitted([], [])
    assert stage.sql("SELECT * FROM activity") == []


def test_a_task_that_failed_waits_in_the_same_queue_as_one_for_later(stage: Stage) -> None:
    """The nearest of both is what the store waits for."""
    (assigned,) = stage.start(ADD)
    stage.submit(NewTask("add", "1", delay=BACKOFF + SECOND))
    stage.report(assigned, Failed(BOOM))

    assert stage.store.next_due_at == NOON + BACKOFF
