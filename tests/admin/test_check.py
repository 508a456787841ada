"""`dtm-admin check`: what must not be is found, and what is right is not complained of."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import NewTask, Released, Success
from dtm.storage.check import CLAIMS
from dtm.storage.lock import Holder
from tests.admin.scene import Admin, Outcome, Scene

HOLDER = Holder(4711, "127.0.0.1", 12345, "open sesame")


@pytest.fixture
def lively(scene: Scene) -> Scene:
    """A store with tasks in every state, two of them dead for the second time."""
    scene.bury(count=3)
    scene.reprocess(1, 2)
    scene.fail("add", count=2)
    with closing(scene.connection()) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (7,)
    scene.submit(*[NewTask("mul", "1")] * 3, NewTask("mul", "1", delay=3_600_000_000))
    client = scene.connect("worker", "mul")
    first, second = scene.assign(client, "mul", free=2)
    scene.report([first], Success("1"))
    scene.report([second], Released())
    scene.assign(client, "mul", free=1)
    return scene


def check(scene: Scene, admin: Admin, *words: str) -> Outcome:
    """Run the command; the log is the scene's own, which is not there if nobody writes it."""
    return admin("check", "--dead-letter-log", str(scene.db.parent / "dead.log"), *words)


def write_log(scene: Scene, *lines: str) -> None:
    """Write the log, the right one unless lines are given."""
    with closing(scene.connection()) as connection:
        told = [line for (line,) in connection.execute("SELECT line FROM audit ORDER BY seq")]
    (scene.db.parent / "dead.log").write_text("".join(f"{line}\n" for line in lines or told))


def test_a_log_is_missed_only_if_it_has_lines(scene: Scene, admin: Admin) -> None:
    """Where nothing has died yet there is nothing in it."""
    fresh = check(scene, admin)
    scene.bury(count=1)
    buried = check(scene, admin)

    assert (fresh.code, buried.code) == (0, 0)
    assert "no line of a log" not in fresh.out
    assert "no line of a log was found; name it as --dead-letter-log" in buried.out


def test_a_store_that_is_right_has_no_findings(lively: Scene, admin: Admin) -> None:
    """Stopped, and beside a live server; every claim was looked at."""
    write_log(lively)
    stopped = check(lively, admin)
    with lively.held(HOLDER):
        working = check(lively, admin, "-o", "json")

    assert stopped.code == 0
    assert stopped.out.splitlines()[-1] == f"Checked {lively.db}: {len(CLAIMS) + 2} claims, no findings."
    assert "1 task assigned when the server ended" in stopped.out
    assert (working.code, working.document["findings"], working.document["server"]) == (0, [], True)
    assert working.document["claims"] == len(CLAIMS) + 2
    assert "assigned" not in str(working.document["notes"])


# What happens to the file, by statements: each must be found by a claim of its own.
SPOILT = {
    "the books tell": "UPDATE counts SET tasks = tasks + 1 WHERE kind = 'mul' AND state = 'pending'",
    "an assigned task has its live": "UPDATE assignments SET finished_at = 1, outcome = 'died' WHERE outcome IS NULL",
    "a live assignment is": "UPDATE tasks SET state = 'pending', assignment_id = NULL WHERE state = 'assigned'",
    "nothing is assigned to a client that": "UPDATE clients SET left_at = 1, why = 'goodbye' WHERE name = 'worker'",
    "no task was completed twice": """INSERT INTO assignments (task_id, client_id, assigned_at, finished_at, outcome)
        SELECT task_id, client_id, assigned_at, finished_at, outcome FROM assignments WHERE outcome = 'completed'""",
    "a task is completed if and only if": "UPDATE assignments SET outcome = 'failed' WHERE outcome = 'completed'",
    "a task is dead if and only if": "UPDATE dead_letters SET resolved_at = 1, resolution = 'cleared'",
    "a task has the instant of its end": "UPDATE tasks SET finished_at = NULL WHERE state = 'completed'",
    "only a running attempt has a deadline": "UPDATE tasks SET deadline_at = 1 WHERE state = 'pending'",
    "a task that was to stop": "UPDATE tasks SET cancel_requested_at = 1 WHERE state = 'pending'",
    "a cancelled task was to stop": "UPDATE tasks SET state = 'cancelled', finished_at = 1 WHERE state = 'pending'",
    "no attempt began after": "UPDATE tasks SET expires_at = 1 WHERE state = 'completed'",
    "a task expires only if": "UPDATE tasks SET state = 'expired', finished_at = 1 WHERE state = 'pending'",
    "no task was tried more often": "UPDATE tasks SET retry_count = 4 WHERE state = 'pending'",
    "each dead letter and what became of it": "DELETE FROM audit WHERE event = 'reprocessed' AND seq = 4",
    "no number given out is above": "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'assignments'",
    "the log is not ahead of the audit": "UPDATE meta SET log_position = 99",
    "each audit row is whole": "UPDATE audit SET line = replace(line, 'boom', 'doom') WHERE seq = 2",
    "every row refers to one that is there": "DELETE FROM clients WHERE name = 'worker'",
    "the database keeps a write-ahead log": "PRAGMA journal_mode = delete",
    "the pages, tables and indexes": """PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, '''pending''', '''dead''')
        WHERE name = 'ix_tasks_claim'""",
}


@pytest.mark.parametrize(("claim", "script"), SPOILT.items(), ids=SPOILT.keys())
def test_what_is_wrong_is_found(lively: Scene, admin: Admin, claim: str, script: str) -> None:
    """Each claim can fail: the exit code is 1, and an example is named."""
    with closing(lively.connection()) as connection:
        connection.executescript(script)

    found = check(lively, admin, "-o", "json")
    (finding,) = [one for one in found.document["findings"] if one["claim"].startswith(claim)]
    assert found.code == 1
    assert finding["examples"]
    assert finding["claim"] in CLAIMS


def test_every_claim_is_tried() -> None:
    """None of them is there only for show."""
    assert [claim for claim in CLAIMS if not any(claim.startswith(beginning) for beginning in SPOILT)] == []


def test_a_missing_audit_row_is_found(lively: Scene, admin: Admin) -> None:
    """Also if the books of the letters still agree."""
    with closing(lively.connection()) as connection:
        connection.execute("UPDATE audit SET seq = 99 WHERE seq = 7")

    told = check(lively, admin)
    assert told.code == 1
    assert "row 99 was changed, as its CRC or its number does not fit" in told.out


def test_damaged_pages_are_findings_and_no_traceback(lively: Scene, admin: Admin) -> None:
    """What cannot be read is told claim by claim; the rest is looked at all the same."""
    lively.submit(*[NewTask("big", f'"{"x" * 900}"')] * 100)
    with lively.db.open("r+b") as file:
        file.seek(lively.db.stat().st_size * 3 // 4 // 4_096 * 4_096)
        file.write(b"\xff" * 4_096 * 5)

    found = check(lively, admin, "-o", "json")
    assert found.code == 1
    assert found.document["claims"] == len(CLAIMS) + 2
    assert "the pages, tables and indexes of the file are sound" in [f["claim"] for f in found.document["findings"]]


def test_examples_are_few(lively: Scene, admin: Admin) -> None:
    """A store with a million wrong rows is told in a few lines."""
    lively.submit(*[NewTask("add", "1")] * 100)
    with closing(lively.connection()) as connection:
        connection.execute("UPDATE tasks SET finished_at = 1")

    told = check(lively, admin)
    assert "  and perhaps more" in told.out
    assert len(told.out.splitlines()) < 20


def test_another_stores_log_is_found(lively: Scene, admin: Admin) -> None:
    """By its last line."""
    with closing(lively.connection()) as connection:
        ((line,),) = connection.execute("SELECT line FROM audit WHERE seq = 7").fetchall()
        connection.execute("DELETE FROM audit WHERE seq = 7")
    write_log(lively, line)

    assert "the log's last line is in the database; found\n  " in check(lively, admin).out


def test_an_older_copy_is_found(lively: Scene, admin: Admin) -> None:
    """Before a server refuses it."""
    before = lively.db.read_bytes()
    lively.submit(NewTask("add", "1"))
    for path in lively.db.parent.glob("tasks.db-*"):
        path.unlink()
    lively.db.write_bytes(before)

    assert "the store is the one that last ran here" in check(lively, admin).out


def test_a_backup_can_be_checked(lively: Scene, admin: Admin, tmp_path: Path) -> None:
    """It has no findings, and says what it is."""
    backup = tmp_path / "backup.db"
    admin("backup", str(backup))
    lively.db = backup

    told = check(lively, admin)
    assert (told.code, "this is a backup" in told.out) == (0, True)


def test_who_else_may_read_the_database_is_told(lively: Scene, admin: Admin) -> None:
    """A note, as somebody may have wanted it."""
    lively.db.chmod(0o644)

    told = check(lively, admin)
    assert (told.code, "others than its owner may read or write the database (mode 0644)" in told.out) == (0, True)
