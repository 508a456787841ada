"""The books: how many tasks stand where, and what happened in which minute."""

from __future__ import annotations

from dtm.storage.batch import Batch, Clear, NewTask, Reprocess, Selection, Why
from dtm.storage.books import KEPT_MINUTES
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, MINUTE, NOON, OK, SECOND, UNBEGUN, Stage, report

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)
FIRST_MINUTE = NOON // MINUTE


def counts(stage: Stage) -> dict[tuple[str, str], int]:
    """Read how many tasks of which kind are where, leaving out what nobody is."""
    return {(kind, state): tasks for kind, state, tasks in stage.sql("SELECT * FROM counts") if tasks}


def activity(stage: Stage) -> dict[tuple[int, str], int]:
    """Read what happened, by the minute since noon."""
    return {(minute - FIRST_MINUTE, event): times for minute, event, times in stage.sql("SELECT * FROM activity")}


def test_an_empty_store_has_empty_books(stage: Stage) -> None:
    """Nothing is there, nothing has happened."""
    assert counts(stage) == {}
    assert activity(stage) == {}


def test_every_step_of_a_task_is_counted(stage: Stage) -> None:
    """From where it stood to where it stands, kind by kind."""
    seen = [counts(stage)]
    client = stage.join(kinds=("add", "mul")).client_id
    stage.submit(ADD, ADD, NewTask("mul", "1"), NewTask("add", "1", delay=SECOND))
    seen.append(counts(stage))
    first, second, third = stage.give(client, "add", "mul")
    seen.append(counts(stage))
    stage.apply(Batch(reports=[report(first, OK), report(second, FAILED), report(third, HOPELESS)]))
    seen.append(counts(stage))
    stage.now = NOON + BACKOFF
    stage.apply(Batch())
    seen.append(counts(stage))

    assert seen == [
        {},
        {("add", "pending"): 2, ("add", "scheduled"): 1, ("mul", "pending"): 1},
        {("add", "assigned"): 2, ("add", "scheduled"): 1, ("mul", "assigned"): 1},
        {("add", "completed"): 1, ("add", "scheduled"): 2, ("mul", "dead"): 1},
        {("add", "completed"): 1, ("add", "pending"): 2, ("mul", "dead"): 1},
    ]


def test_commands_are_counted(stage: Stage) -> None:
    """A letter that runs again is pending; one that was cleared is nowhere."""
    stage.bury(ADD, ADD, ADD)
    stage.settle(Reprocess(EVERYTHING, 1))
    between = counts(stage)
    stage.settle(Clear(EVERYTHING, 1))

    assert between == {("add", "dead"): 2, ("add", "pending"): 1}
    assert counts(stage) == {("add", "dead"): 1, ("add", "pending"): 1}


def test_a_task_that_passes_through_several_states_in_one_batch_is_counted_once(stage: Stage) -> None:
    """Submitted and assigned, or failed, dead and reprocessed: only the last state counts."""
    (assigned,) = stage.start(ADD)
    stage.apply(Batch(reports=[report(assigned, HOPELESS)], commands=[Reprocess(EVERYTHING, 1)]))

    assert counts(stage) == {("add", "pending"): 1}


def test_what_happens_is_noted_by_the_minute(stage: Stage) -> None:
    """Each kind of event, as often as it happened, in the minute of the transaction."""
    assigned = stage.start(*[ADD] * 5)
    stage.wait(59.999_999)
    stage.apply(Batch(reports=[report(assigned[0], OK), report(assigned[1], OK)]))
    stage.wait(0.000_001)
    stage.apply(
        Batch(reports=[report(assigned[2], FAILED), report(assigned[3], HOPELESS), report(assigned[4], UNBEGUN)])
    )
    stage.give(assigned[0].client_id)
    stage.wait(60)
    stage.leave(assigned[0].client_id, Why.SILENT)
    stage.settle(Reprocess(EVERYTHING, 9))
    stage.bury(NewTask("mul", "1"))
    stage.settle(Clear(EVERYTHING, 9))

    assert activity(stage) == {
        (0, "submitted"): 5,
        (0, "completed"): 2,
        (1, "retried"): 1,
        (1, "dead"): 1,
        (1, "released"): 1,
        (2, "retried"): 1,
        (2, "reprocessed"): 1,
        (2, "submitted"): 1,
        (2, "dead"): 1,
        (2, "cleared"): 1,
    }


def test_duplicates_are_not_submitted_twice(stage: Stage) -> None:
    """Throughput counts tasks, not requests."""
    for _ in range(3):
        stage.offer(NewTask("add", "1", "k"))

    assert activity(stage) == {(0, "submitted"): 1}


def test_reports_that_come_again_are_not_counted_again(stage: Stage) -> None:
    """Nor are stale ones."""
    (assigned,) = stage.start(ADD)
    for outcome in (OK, OK, FAILED, UNBEGUN):
        stage.report(assigned, outcome)

    assert activity(stage) == {(0, "submitted"): 1, (0, "completed"): 1}


def test_a_transaction_in_which_nothing_happens_writes_nothing(stage: Stage) -> None:
    """A look for work that finds none needs no fsync."""
    client = stage.join().client_id
    log = stage.path.with_name("tasks.db-wal")
    before = log.read_bytes()
    stage.apply(Batch())
    stage.give(client)

    assert log.read_bytes() == before


def test_minutes_that_nobody_asks_for_any_more_are_dropped(stage: Stage) -> None:
    """The table does not grow for ever; what the reports still show stays."""
    stage.submit(ADD)
    stage.wait(60)
    stage.submit(ADD)
    stage.now = NOON + (KEPT_MINUTES + 1) * MINUTE
    stage.apply(Batch(log_position=0))

    assert activity(stage) == {(1, "submitted"): 1}


def test_a_clock_that_jumps_back_is_no_reason_to_fail(stage: Stage) -> None:
    """Things are noted in the minute that the clock shows, and counted all the same."""
    (assigned,) = stage.start(ADD)
    stage.now = NOON - 10 * 365 * 24 * 60 * MINUTE
    stage.report(assigned, FAILED)

    assert counts(stage) == {("add", "scheduled"): 1}
    assert activity(stage)[-10 * 365 * 24 * 60, "retried"] == 1
