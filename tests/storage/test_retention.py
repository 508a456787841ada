"""What has ended stays as long as it was to, and then goes with everything that belongs to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, Cancellation, Clear, NewTask, Prune, Reprocess, Selection, Submission
from dtm.storage.reader import Reader
from dtm.storage.receipt import Resolved, Submitted
from dtm.storage.retention import (
    ENDED_TIMES,
    MAX_ATTEMPTS,
    MAX_FOUND,
    MAX_LOOKED_AT,
    MAX_PRUNED,
    Outlived,
    Retention,
    look,
)
from tests.storage.stage import MINUTE, OK, UNBEGUN, Stage, report, seat, what_is_wrong

HOUR = 60 * MINUTE
HOUR_S = 3_600
RULE = Retention(completed=HOUR, cancelled=2 * HOUR, dead=3 * HOUR)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A store, which is sound when the test is over."""
    stage = Stage(tmp_path / "tasks.db")
    yield stage
    stage.close()
    assert what_is_wrong(stage.path) == {}


def complete(stage: Stage, *tasks: NewTask) -> list[int]:
    """Let new tasks be completed now."""
    assigned = stage.start(*tasks)
    stage.apply(Batch(reports=[report(one, OK) for one in assigned]))
    return [one.task_id for one in assigned]


def found(stage: Stage, rule: Retention = RULE, *, after: int = 0) -> Outlived:
    """Look for what is to go now."""
    with closing(Reader.open(stage.path)) as reader:
        return look(reader, rule.cutoffs(stage.now), after=after)


def take_out(stage: Stage, *ids: int, rule: Retention = RULE) -> Resolved:
    """Let the writer take out the named tasks, if their time is over."""
    answer = stage.apply(Batch(prunings=[Prune(ids, rule.cutoffs(stage.now))])).prunings[0]
    assert isinstance(answer, Resolved), answer
    return answer


def test_a_completed_task_goes_when_its_time_is_over_and_not_a_moment_before(stage: Stage) -> None:
    """Its attempts go with it; the instant counts at which it ended, not that at which it came."""
    (late,) = stage.start()
    stage.wait(HOUR_S)
    stage.report(late, OK)
    stage.wait(HOUR_S)
    stage.now -= 1
    before = (found(stage).ids, take_out(stage, late.task_id))
    stage.now += 1

    assert before == ((), Resolved(0, 0))
    assert found(stage) == Outlived((late.task_id,), None)
    assert take_out(stage, late.task_id) == Resolved(1, 0)
    assert stage.states(late.task_id) == [None]
    assert stage.sql("SELECT count(*) FROM assignments") == [(0,)]


def test_what_has_not_ended_stays_however_old_it_is(stage: Stage) -> None:
    """Scheduled, pending and assigned tasks are nobody's to take out, even if somebody names them."""
    (assigned,) = stage.start()
    pending, scheduled = stage.submit(NewTask("other", "1"), NewTask("other", "1", delay=99 * HOUR))
    stage.wait(50 * HOUR_S)
    ids = (assigned.task_id, pending, scheduled)

    assert found(stage).ids == ()
    assert take_out(stage, *ids) == Resolved(0, 0)
    assert stage.states(*ids) == ["assigned", "pending", "scheduled"]


def test_for_ever_is_for_ever(stage: Stage) -> None:
    """What has no limit stays when everything else goes."""
    completed, dead = complete(stage), stage.bury(NewTask("add", "2"))
    stage.wait(1_000_000 * HOUR_S)

    assert found(stage, Retention(HOUR, HOUR, None)).ids == tuple(completed)
    assert found(stage, Retention(None, None, HOUR)).ids == tuple(dead)
    assert take_out(stage, *completed, *dead, rule=Retention(None, HOUR, None)) == Resolved(0, 0)
    assert Retention(None, None, None).shortest is None


def test_what_was_cancelled_or_expired_goes_by_a_rule_of_its_own(stage: Stage) -> None:
    """Neither was ever assigned, so there are no attempts to go with them."""
    cancelled, expired = stage.submit(NewTask("other", "1"), NewTask("other", "1", expires=MINUTE))
    stage.apply(Batch(cancellations=[Cancellation((cancelled,))]))
    stage.wait(60)
    stage.apply(Batch())
    states = stage.states(cancelled, expired)
    stage.wait(HOUR_S)
    early = found(stage).ids
    stage.wait(HOUR_S)

    assert states == ["cancelled", "expired"]
    assert early == ()
    assert found(stage).ids == (cancelled, expired)
    assert take_out(stage, cancelled, expired) == Resolved(2, 0)


def test_a_dead_task_goes_as_if_an_operator_had_cleared_it(stage: Stage) -> None:
    """Its letter stays and is resolved, and the audit says that retention did it."""
    (dead,) = stage.bury(NewTask("add", "2"))
    stage.wait(3 * HOUR_S)

    assert take_out(stage, *found(stage).ids) == Resolved(1, 0)
    assert stage.states(dead) == [None]
    assert stage.sql("SELECT task_id, resolution FROM dead_letters") == [(dead, "cleared")]
    line = stage.audit()[-1]
    assert (line["event"], line["task"], line["why"]) == ("cleared", dead, "retention")


def test_a_dead_task_that_was_run_again_is_judged_by_its_new_end(stage: Stage) -> None:
    """Between the look and the writer's turn it may even have come back to life."""
    (dead,) = stage.bury(NewTask("add", "2"))
    stage.wait(3 * HOUR_S)
    ids = found(stage).ids
    stage.settle(Reprocess(Selection(ids=(dead,)), 1))

    assert ids == (dead,)
    assert take_out(stage, *ids) == Resolved(0, 0)
    assert stage.states(dead) == ["pending"]


def test_what_an_operator_cleared_in_between_is_no_trouble(stage: Stage) -> None:
    """Nor is a task that is named twice."""
    (dead,) = stage.bury(NewTask("add", "2"))
    stage.wait(3 * HOUR_S)
    stage.settle(Clear(Selection(ids=(dead,)), 1))

    assert take_out(stage, dead, dead) == Resolved(0, 0)
    assert len(stage.audit()) == 2


def test_a_key_is_free_again_once_its_task_is_gone(stage: Stage) -> None:
    """Not before: until then it gives the task that it has; in the very transaction it may begin anew."""
    (first,) = complete(stage, NewTask("add", "1", "k"))
    stage.wait(HOUR_S)
    again = Submission((NewTask("add", "2", "k"),))
    known = stage.offer(NewTask("add", "1", "k"))
    prune = Prune((first,), RULE.cutoffs(stage.now))
    receipt = stage.apply(Batch(prunings=[prune], submissions=[again]))

    assert known == Submitted([first], [first])
    assert receipt.submissions == [Submitted([first + 1], [])]


def test_the_books_stay_exact(stage: Stage) -> None:
    """Nothing is counted that is not there; what happened stays told."""
    complete(stage, NewTask("add", "1"), NewTask("mul", "1"), NewTask("add", "1"))
    stage.wait(HOUR_S)
    take_out(stage, *found(stage).ids)

    assert stage.sql("SELECT * FROM counts WHERE tasks <> 0") == []
    happened = dict(stage.sql("SELECT event, sum(times) FROM activity GROUP BY event"))
    assert (happened["submitted"], happened["completed"], happened["pruned"]) == (3, 3, 3)


def test_a_late_word_on_a_task_that_is_gone_is_stale(stage: Stage) -> None:
    """The store remembers nothing of it."""
    (one,) = stage.start()
    stage.report(one, OK)
    stage.wait(HOUR_S)
    take_out(stage, one.task_id)
    verdict = stage.report(one, OK)

    assert (verdict.accepted, verdict.state) == (False, None)


def test_numbers_of_what_is_gone_never_come_again(stage: Stage) -> None:
    """Also after the store was opened anew, with nothing left in it."""
    (first,) = complete(stage)
    attempt = stage.sql("SELECT id FROM assignments")[0][0]
    stage.wait(HOUR_S)
    take_out(stage, first)
    stage.reopen()
    (one,) = stage.start()

    assert one.task_id > first
    assert one.assignment_id > attempt


def test_a_look_ends_where_the_young_begin(stage: Stage) -> None:
    """It so costs what is old, however much is young; the first round and the next one find the same."""
    complete(stage, *[NewTask("add", "1")] * 3)
    stage.wait(HOUR_S)
    (young, *_) = stage.submit(*[NewTask("add", "1")] * 500)
    with closing(Reader.open(stage.path)) as reader:
        steps = _steps(reader, lambda: look(reader, RULE.cutoffs(stage.now), after=0))

    assert found(stage) == Outlived((1, 2, 3), None)
    assert young == 4
    assert steps < 2_000  # a look at all 503 takes ten thousand


def _steps(reader: Reader, act: object) -> int:
    """Count, in hundreds, the steps of SQLite's machine that something takes."""
    driver = reader._connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 100

    driver.set_progress_handler(step, 100)
    assert callable(act)
    act()
    driver.set_progress_handler(None, 0)
    return steps


def test_a_task_of_the_future_hides_nothing(stage: Stage) -> None:
    """A clock that was wrong for a day would else keep everything that came after that."""
    stage.wait(24 * HOUR_S)
    (future,) = complete(stage)
    stage.wait(-24 * HOUR_S)
    (past,) = complete(stage)
    stage.wait(HOUR_S)

    assert found(stage).ids == (past,)
    stage.wait(24 * HOUR_S)
    assert found(stage).ids == (future, past)


def test_one_look_finds_no_more_than_a_few_pieces_hold(stage: Stage) -> None:
    """By tasks; the next goes on where it stopped, past what stays."""
    ids = complete(stage, *[NewTask("add", "1")] * (MAX_FOUND + 1))
    (waits,) = stage.submit(NewTask("other", "1"))
    (last,) = complete(stage)
    stage.wait(HOUR_S)

    assert found(stage) == Outlived(tuple(ids[:-1]), ids[-2])
    assert found(stage, after=ids[-2]) == Outlived((ids[-1], last), None)
    assert waits == last - 1


def test_one_look_passes_by_no_more_than_a_moment_holds(stage: Stage) -> None:
    """What stays is passed by in pieces too."""
    stage.submit(*[NewTask("other", "1")] * (MAX_LOOKED_AT + 1))
    (last,) = complete(stage)
    stage.wait(HOUR_S)

    assert found(stage) == Outlived((), MAX_LOOKED_AT)
    assert found(stage, after=MAX_LOOKED_AT) == Outlived((last,), None)


def test_one_look_reads_no_more_than_some_megabytes(stage: Stage) -> None:
    """By what they weigh: payload and result."""
    large = NewTask("add", f'"{"x" * 900_000}"')
    one, two, three, four = complete(stage, *[large] * 4)
    stage.wait(HOUR_S)

    assert found(stage) == Outlived((one, two, three), three)
    assert found(stage, after=three) == Outlived((four,), None)


def test_a_task_of_many_attempts_goes_in_several_pieces(stage: Stage) -> None:
    """After each everything is sound: what tells how it ended goes last."""
    stage.submit(NewTask("add", "1"), NewTask("add", "1"))
    client = stage.join().client_id
    for _ in range(MAX_ATTEMPTS - 1):
        one, two = stage.apply(Batch(seats=[seat(client)])).assigned
        stage.apply(Batch(reports=[report(one, UNBEGUN), report(two, UNBEGUN)]))
    for task in stage.give(client):
        stage.report(task, OK)
    stage.wait(HOUR_S)
    ids = found(stage).ids
    answers: list[Resolved] = []
    while not answers or answers[-1].left:
        answers.append(take_out(stage, *ids))
        assert what_is_wrong(stage.path) == {}

    assert answers == [Resolved(0, 2), Resolved(1, 1), Resolved(1, 0)]
    assert stage.sql("SELECT count(*) FROM assignments") == [(0,)]


def test_one_commit_takes_out_no_more_than_a_piece(stage: Stage) -> None:
    """The first that are named; what is no longer to go counts as done with, and the last are left."""
    ids = complete(stage, *[NewTask("add", "1")] * (MAX_PRUNED + 2))
    stage.wait(HOUR_S)
    (young,) = complete(stage)
    named = [*ids[:2], young, *ids[2:]]

    assert take_out(stage, *named) == Resolved(MAX_PRUNED - 1, 3)
    assert stage.states(*named[-4:]) == [None, *["completed"] * 3]
    assert take_out(stage, *named[-3:]) == Resolved(3, 0)


def test_a_commit_in_which_many_tasks_end_takes_out_more(stage: Stage) -> None:
    """In proportion: whatever the load is, as much goes as comes."""
    ended = MAX_PRUNED // ENDED_TIMES + 50
    old = complete(stage, *[NewTask("add", "1")] * (ENDED_TIMES * ended + 1))
    stage.wait(HOUR_S)
    assigned = stage.start(*[NewTask("add", "1")] * ended)
    prune = Prune(tuple(old), RULE.cutoffs(stage.now))
    receipt = stage.apply(Batch(reports=[report(one, OK) for one in assigned], prunings=[prune]))

    assert receipt.prunings == [Resolved(ENDED_TIMES * ended, 1)]
    assert stage.sql("SELECT count(*) FROM assignments") == [(1 + ended,)]


def test_a_steady_load_that_is_taken_out_again_lets_the_file_grow_no_more(stage: Stage) -> None:
    """The pages that are free again are used again: after the first stay the file keeps its size."""
    client = stage.join().client_id
    sizes = []
    for minute in range(300):
        stage.submit(*[NewTask("add", f'"{"x" * 200}"', f"{minute}-{n}") for n in range(10)])
        assigned = stage.give(client)
        stage.apply(Batch(reports=[report(one, OK) for one in assigned], log_position=0))
        stage.wait(60)
        if ids := found(stage).ids:
            take_out(stage, *ids)
        sizes.append(stage.sql("PRAGMA page_count")[0][0])

    assert len(stage.sql("SELECT id FROM tasks")) <= 600
    assert sizes[-1] <= sizes[75] * 1.1
    assert sizes[75] > 2 * sizes[10], "nothing was there to be kept in bounds"
