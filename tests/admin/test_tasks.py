"""`dtm-admin tasks list` and `dtm-admin tasks show`."""

from __future__ import annotations

import re

import pytest

from dtm.storage.batch import Batch, Failed, Failure, NewTask, Success
from dtm_admin.clock import SECOND
from tests.admin.scene import BOOM, Admin, Outcome, Scene


def _ids(outcome: Outcome) -> list[int]:
    return [task["id"] for task in outcome.document["tasks"]]


def _facts(outcome: Outcome) -> dict[str, str]:
    return dict(re.findall(r"^(\w[\w ]*): +(.*)$", outcome.out, re.MULTILINE))


# The list.


def test_newest_tasks_come_first(scene: Scene, admin: Admin) -> None:
    """With kind, state, retries, age and payload."""
    scene.submit(NewTask("add", "[1, 2]", priority=5), NewTask("1e5", "null"), ago_s=185)

    headers, *rows = admin("tasks", "list").table

    assert headers == [
        "TASK",
        "KIND",
        "STATE",
        "PRIORITY",
        "RETRIES",
        "CREATED",
        "NEXT TRY",
        "PROGRESS",
        "ERROR",
        "PAYLOAD",
    ]
    assert [row[0] for row in rows] == ["2", "1"]
    assert rows[0][1:5] == ["1e5", "pending", "0", "0"]
    assert rows[1][1:5] == ["add", "pending", "5", "0"]
    assert rows[1][5].endswith("Z (3m ago)")
    assert rows[1][6:] == ["-", "-", "-", "[1, 2]"]


def test_state_and_kind_choose(scene: Scene, admin: Admin) -> None:
    """Alone or together."""
    (waiting,) = scene.submit(NewTask("add", "1"))
    (later,) = scene.submit(NewTask("add", "1", delay=60 * SECOND))
    (dead,) = scene.bury("mul")

    assert _ids(admin("tasks", "list", "-o", "json", "--state", "pending")) == [waiting]
    assert _ids(admin("tasks", "list", "-o", "json", "--kind", "add")) == [later, waiting]
    assert _ids(admin("tasks", "list", "-o", "json", "--kind", "add", "--state", "scheduled")) == [later]
    assert _ids(admin("tasks", "list", "-o", "json", "--state", "dead")) == [dead]
    assert admin("tasks", "list", "--state", "assigned").out == "No tasks match.\n"
    assert admin("tasks", "list", "--state", "cleared").code == 2


def test_cut_list_says_so_on_standard_error(scene: Scene, admin: Admin) -> None:
    """Fifty unless another limit is set."""
    scene.submit(*[NewTask("add", "1") for _ in range(51)])

    outcome = admin("tasks", "list")

    assert len(outcome.table) == 1 + 50
    assert outcome.err == "Showing the newest 50; --limit shows more.\n"
    assert admin("tasks", "list", "--limit", "51").err == ""


def test_list_does_not_steer_the_terminal(scene: Scene, admin: Admin) -> None:
    """Kinds and payloads come from strangers."""
    scene.submit(NewTask("\x1b[31m", '"\x9b2J"'))

    assert all(letter.isprintable() or letter == "\n" for letter in admin("tasks", "list").out)
    assert admin("tasks", "list", "-o", "json").out.isascii()


# One task.


def test_everything_about_a_task_is_shown(scene: Scene, admin: Admin) -> None:
    """What it is, where it stands and when it is tried next."""
    client = scene.connect("ada", "add")
    (id,) = scene.submit(NewTask("add", '{"a": 1}', key="order-7", priority=3, timeout=30 * SECOND), ago_s=300)
    scene.report(scene.assign(client, "add", ago_s=200), Failed(BOOM), ago_s=185)

    facts = _facts(admin("tasks", "show", str(id)))

    assert facts["Task"] == str(id)
    assert (facts["Kind"], facts["State"], facts["Priority"], facts["Key"]) == ("add", "scheduled", "3", "order-7")
    assert (facts["Retries"], facts["Timeout"], facts["Payload"]) == ("1 of 3", "30s", '{"a": 1}')
    assert facts["Created"].endswith("Z (5m ago)")
    assert facts["Last retry"].endswith("Z (3m ago)")
    assert facts["Next try"].endswith("(in 56m)")
    assert facts["Last error"] == "ValueError: boom"
    assert (facts["Finished"], facts["Result"]) == ("-", "-")


def test_every_attempt_is_shown(scene: Scene, admin: Admin) -> None:
    """Assignment, client, start, duration and outcome; the one that runs as running."""
    ada, bob = scene.connect("ada", "add"), scene.connect("bob", "add")
    (id,) = scene.submit(NewTask("add", "1"), ago_s=300)
    scene.assign(ada, "add", ago_s=200)
    scene.lose(ada, ago_s=188)
    scene.assign(bob, "add", ago_s=60)

    table = admin("tasks", "show", str(id)).table

    at = table.index(["ASSIGNMENT", "CLIENT", "ADDRESS", "STARTED", "DURATION", "OUTCOME", "ERROR"])
    died, running = table[at + 1], table[at + 2]
    assert died[:3] == ["1", "ada", "10.0.0.7:5000"]
    assert died[3].endswith("Z (3m ago)")
    assert re.fullmatch(r"12(\.\d+)?s", died[4])
    assert died[5:] == ["died", "ClientDied: client ada: silent"]
    assert running[:2] == ["2", "bob"]
    assert running[5:] == ["running", "-"]


def test_traceback_is_shown_in_its_lines(scene: Scene, admin: Admin) -> None:
    """Set in, so that no line of it passes for dtm's own; what steers a terminal is escaped."""
    (id,) = scene.bury(failure=Failure("E", "two\nlines", "Traceback\n  line 7\r\x1b[2J\nE: two\n"))

    assert (
        "Assignment 1: E: two\\nlines\n  Traceback\n    line 7\\r\\x1b[2J\n  E: two\n"
        in admin("tasks", "show", str(id)).out
    )


def test_deaths_and_their_end_are_shown(scene: Scene, admin: Admin) -> None:
    """A task that died, was reprocessed and died again has two lines."""
    (id,) = scene.bury(ago_s=185)
    scene.reprocess(id)
    scene.fail("add", failure=Failure("Timeout"))

    table = admin("tasks", "show", str(id)).table

    at = table.index(["DIED", "REASON", "RESOLUTION", "RESOLVED", "ERROR"])
    assert table[at + 1][1:3] == ["rejected", "reprocessed"]
    assert table[at + 1][4] == "ValueError: boom"
    assert table[at + 2][1:] == ["rejected", "open", "-", "Timeout"]


def test_task_for_programs(scene: Scene, admin: Admin) -> None:
    """Values are JSON, instants ISO with microseconds, durations seconds."""
    client = scene.connect("ada", "add")
    (id,) = scene.submit(NewTask("add", '{"a": 12345678901234567890.10}', timeout=1_500_000), ago_s=300)
    scene.report(scene.assign(client, "add", ago_s=200), Failed(BOOM), ago_s=190)

    outcome = admin("tasks", "show", str(id), "-o", "json")

    document = outcome.document
    assert "12345678901234567890.10" in outcome.out
    assert (document["timeout_s"], document["max_retries"], document["state"]) == (1.5, 3, "scheduled")
    assert document["next_try_at"] == document["run_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["created_at"])
    assert document["error"] == {"type": "ValueError", "message": "boom", "traceback": BOOM.traceback}
    (attempt,) = document["attempts"]
    assert (attempt["client"], attempt["outcome"], attempt["error"]) == ("ada", "failed", document["error"])
    assert 9 < attempt["duration_s"] < 12
    assert document["dead_letters"] == []


def test_result_is_shown(scene: Scene, admin: Admin) -> None:
    """As text, and as a value."""
    client = scene.connect("ada", "add")
    (id,) = scene.submit(NewTask("add", "1"))
    scene.report(scene.assign(client, "add"), Success('{"sum": 3}'))

    assert _facts(admin("tasks", "show", str(id)))["Result"] == '{"sum": 3}'
    assert admin("tasks", "show", str(id), "-o", "json").document["result"] == {"sum": 3}


def test_task_that_fell_due_waits_for_no_time(scene: Scene, admin: Admin) -> None:
    """A pending task has no next try, whatever it once waited for: it runs as soon as a client is free."""
    (id,) = scene.submit(NewTask("add", "1", delay=SECOND), ago_s=300)
    scene.apply(Batch())

    document = admin("tasks", "show", str(id), "-o", "json").document

    assert document["state"] == "pending"
    assert document["run_at"] is not None
    assert document["next_try_at"] is None


@pytest.mark.parametrize("output", ["table", "json"])
def test_unknown_task_is_not_found(output: str, admin: Admin) -> None:
    """Exit code 4, and nothing on standard output."""
    outcome = admin("tasks", "show", "7", "-o", output)

    assert (outcome.code, outcome.out) == (4, "")
    assert "wanted task 7, found no such task" in outcome.err


def test_cleared_task_is_told_to_be_cleared(scene: Scene, admin: Admin) -> None:
    """It is not found, but its end is known."""
    (id,) = scene.bury()
    admin("deadletter", "clear", str(id), "--yes")

    outcome = admin("tasks", "show", str(id))

    assert outcome.code == 4
    assert "task 1 of kind add is not there any more: it was cleared at" in outcome.err


@pytest.mark.parametrize("word", ["seven", "1e3", "٣", str(2**63)])
def test_what_is_no_id_is_wrong_usage(word: str, admin: Admin) -> None:
    """Exit code 2, and what an id looks like."""
    outcome = admin("tasks", "show", word)

    assert outcome.code == 2
    assert "wanted the id of a task, a whole number from 0 up" in outcome.err
