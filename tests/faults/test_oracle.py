"""The oracle itself: whatever is wrong, it says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import oracle
from tests.faults.ledger import Ledger
from tests.server.live import Peer, serving, success
from tests.server.live import failure as failed
from tests.waiting import eventually

Story = tuple[Path, Path, Ledger]

TASKS = [{"kind": "Echo", "payload": n, "key": f"k{n}", "max_retries": 1} for n in range(4)]


@pytest.fixture
async def story(tmp_path: Path) -> Story:
    """Tell one that is true: three tasks completed, the fourth dead."""
    ledger = Ledger()
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("Echo")
        ledger.acknowledge(TASKS, await peer.submit(*ledger.intend(TASKS)))
        for _ in TASKS:
            await _run(peer, ledger)
        await eventually(lambda: live.settings.dead_letter_log.read_bytes() or None)
        return live.settings.db, live.settings.dead_letter_log, ledger


async def _run(peer: Peer, ledger: Ledger) -> None:
    task = await peer.expect("Task")
    last = task["payload"] == len(TASKS) - 1
    await peer.say(ledger.send(failed(task) if last else success(task, task["payload"])))
    ledger.hear(await peer.expect("ResultResponse"))


WRONG_ROWS = {
    "a key has two tasks": "DROP INDEX uq_tasks_key; UPDATE tasks SET key = 'k0' WHERE id = 2",
    "a task has succeeded twice": "UPDATE assignments SET task_id = 1 WHERE task_id = 2",
    "state and attempts disagree": "UPDATE tasks SET state = 'pending' WHERE id = 1",
    "given out again after its end": "UPDATE assignments SET task_id = 1 WHERE task_id = 4",
    "was given out after that": "UPDATE tasks SET state = 'expired', finished_at = 1 WHERE id = 1",
    "although its task had expired": "UPDATE tasks SET expires_at = 1 WHERE id = 1",
    "although it was to stop": "UPDATE tasks SET cancel_requested_at = 1 WHERE id = 4",
    "an attempt that is over has a deadline": "UPDATE tasks SET deadline_at = 1 WHERE id = 4",
    "one by their unique key": """
        DROP INDEX uq_tasks_unique; UPDATE tasks SET state = 'pending', unique_key = 'u' WHERE id < 3""",
    "more failed attempts than it may": "UPDATE assignments SET outcome = 'died', task_id = 4 WHERE task_id = 3",
    "retry_count is not the number": "UPDATE tasks SET retry_count = 1 WHERE id = 1",
    "current attempt is over": "UPDATE tasks SET state = 'assigned', assignment_id = 1 WHERE id = 1",
    "an attempt runs that is not": "UPDATE assignments SET outcome = NULL, finished_at = NULL WHERE task_id = 1",
    "a client that is gone": "UPDATE assignments SET outcome = NULL, finished_at = NULL",
    "open dead letters differ": "UPDATE dead_letters SET resolved_at = 1, resolution = 'cleared'",
    "a dead letter and its line": "DELETE FROM dead_letters",
    "another number of tasks": "UPDATE counts SET tasks = tasks + 1 WHERE state = 'dead'",
    "another number of completions": "UPDATE activity SET times = 2 WHERE event = 'completed'",
    "another number of submissions": "UPDATE activity SET times = 5 WHERE event = 'submitted'",
    "a task was forgotten": "UPDATE tasks SET state = 'pending' WHERE id = 4",
    "an attempt is still open": "UPDATE assignments SET outcome = NULL, finished_at = NULL WHERE task_id = 1",
    "acknowledged, and not in the database": "DELETE FROM tasks WHERE id = 2",
    "not what was submitted": "UPDATE tasks SET payload = '7' WHERE id = 2",
    "a result that its winner has not sent": "UPDATE tasks SET result = '7' WHERE id = 2",
    "accepted, and not counted": "UPDATE assignments SET outcome = 'released' WHERE task_id = 4",
    "the log is not the beginning": "UPDATE audit SET line = '{}'",
}

WRONG_LEDGERS: dict[str, Callable[[Ledger], object]] = {
    "in the database, and never submitted": lambda ledger: ledger.intents.pop("k2"),
    "refused, and in the database": lambda ledger: ledger.refused.add("k2"),
    "accepted, and not counted": lambda ledger: ledger.sent.update({max(ledger.sent): ledger.sent[min(ledger.sent)]}),
    "an end was told of": lambda ledger: ledger.end(4, "completed"),
}


async def test_a_true_story_passes(story: Story) -> None:
    """The oracle does not cry wolf."""
    oracle.check_at_rest(*story)


@pytest.mark.parametrize("claim", WRONG_ROWS)
async def test_wrong_rows_are_named(story: Story, claim: str) -> None:
    """Each impossibility, made true by hand, is found; some bring others along."""
    with closing(sqlite3.connect(story[0])) as connection:
        connection.executescript(WRONG_ROWS[claim])

    assert claim in _complaints(story)


@pytest.mark.parametrize("claim", WRONG_LEDGERS)
async def test_what_the_driver_knows_better_is_named(story: Story, claim: str) -> None:
    """Each contradiction between the ledger and the database is found."""
    WRONG_LEDGERS[claim](story[2])

    assert claim in _complaints(story)


async def test_a_log_that_lacks_its_last_line_is_not_at_rest(story: Story) -> None:
    """It may lag while the server works, and not afterwards."""
    story[1].write_bytes(b"")

    oracle.check_running(*story)
    assert "the log is not the audit" in _complaints(story)


def _complaints(story: Story) -> str:
    db, log, ledger = story
    return "; ".join(dict([*oracle.complaints(db, log, ledger), *oracle.complaints_at_rest(db, log)]))
