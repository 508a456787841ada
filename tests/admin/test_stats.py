"""`dtm-admin stats`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dtm.storage.batch import Batch, Failed, Failure, NewTask, Released, Success
from dtm.storage.lock import Holder
from dtm_admin.clock import SECOND
from tests.admin.scene import BOOM, SECRET, Admin, Scene

HOLDER = Holder(4711, "127.0.0.1", 12345, SECRET)


def test_tasks_are_counted_by_kind_and_state(scene: Scene, admin: Admin) -> None:
    """Rows are kinds, columns are states, and both have their sums."""
    scene.submit(NewTask("add", "1"), NewTask("add", "2"), NewTask("mul", "3", delay=60 * SECOND))
    scene.bury("mul")

    table = admin("stats").table

    assert ["KIND", "SCHEDULED", "PENDING", "ASSIGNED", "COMPLETED", "DEAD", "CANCELLED", "EXPIRED", "TOTAL"] in table
    assert ["add", "0", "2", "0", "0", "0", "0", "0", "2"] in table
    assert ["mul", "1", "0", "0", "0", "1", "0", "0", "2"] in table
    assert ["TOTAL", "1", "2", "0", "0", "1", "0", "0", "4"] in table


def test_counts_are_numbers_for_programs(scene: Scene, admin: Admin) -> None:
    """JSON has the same counts, each kind with all states."""
    scene.submit(NewTask("1e5", "1"))

    document = admin("stats", "-o", "json").document

    ended = {"completed": 0, "dead": 0, "cancelled": 0, "expired": 0}
    counts = {"scheduled": 0, "pending": 1, "assigned": 0, **ended, "total": 1}
    assert document["kinds"] == [{"kind": "1e5", **counts}]
    assert document["total"] == counts


def test_kind_that_looks_like_a_number_is_shown_as_it_is(scene: Scene, admin: Admin) -> None:
    """No table turns the kind `1e5` into 100000."""
    scene.submit(NewTask("1e5", "1"))

    assert ["1e5", "0", "1", "0", "0", "0", "0", "0", "1"] in admin("stats").table


def test_oldest_waiting_task_is_named(scene: Scene, admin: Admin) -> None:
    """The oldest pending task with its kind and age."""
    first, _ = [*scene.submit(NewTask("add", "1"), ago_s=185), *scene.submit(NewTask("mul", "1", priority=9))]

    assert ["Oldest waiting:", f"task {first} (add), submitted 3m ago"] in admin("stats").table
    oldest = admin("stats", "-o", "json").document["oldest_waiting"]
    assert (oldest["task_id"], oldest["kind"]) == (first, "add")
    assert 185 <= oldest["age_s"] < 245


def test_next_due_is_told(scene: Scene, admin: Admin) -> None:
    """When the next scheduled task falls due."""
    scene.submit(NewTask("add", "1", delay=7_230 * SECOND))

    assert any(line[0] == "Next due:" and line[1].endswith("(in 2h)") for line in admin("stats").table)
    due_at = datetime.fromisoformat(admin("stats", "-o", "json").document["next_due_at"])
    assert timedelta(hours=1) < due_at - datetime.now(UTC) < timedelta(hours=3)


def test_nothing_is_told_as_nothing(admin: Admin) -> None:
    """An empty store has no oldest task, no next one and no clients."""
    document = admin("stats", "-o", "json").document

    assert document["oldest_waiting"] is None
    assert document["next_due_at"] is None
    assert document["clients"] == []
    assert ["Oldest waiting:", "-"] in admin("stats").table


def test_clients_are_idle_busy_or_dead_with_their_tasks(scene: Scene, admin: Admin) -> None:
    """What a busy one holds and a dead one lost, by number and by name."""
    scene.connect("ada", "add")
    scene.submit(*[NewTask("mul", "1") for _ in range(8)])
    bob = scene.connect("bob", "mul", capacity=7)
    scene.assign(bob, "mul", free=7)
    eve = scene.connect("eve", "mul")
    scene.assign(eve, "mul")
    scene.lose(eve)

    rows = {line[1]: line for line in admin("stats").table if len(line) >= 7 and line[0].isdigit()}

    assert rows["ada"][3] == "idle"
    assert rows["ada"][6] == "0 of 4"
    assert rows["bob"][3] == "busy"
    assert rows["bob"][6:] == ["7 of 7", "1, 2, 3, 4, 5 and 2 more"]
    assert rows["eve"][3] == "dead"
    assert rows["eve"][6:] == ["1 lost", "8"]
    named = {client["name"]: client for client in admin("stats", "-o", "json").document["clients"]}
    assert named["bob"]["tasks"] == [1, 2, 3, 4, 5, 6, 7]
    assert named["eve"]["status"] == "dead"


def test_throughput_counts_what_happened_lately(scene: Scene, admin: Admin) -> None:
    """Submitted, completed, retried and dead, in the last 1, 5 and 60 minutes."""
    client = scene.connect("ada", "add")
    scene.submit(NewTask("add", "1"), NewTask("add", "2"), NewTask("add", "3"), ago_s=600)
    done, failed, given_back = (scene.assign(client, "add")[0] for _ in range(3))
    scene.report([done], Success("1"))
    scene.report([failed], Failed(BOOM))
    scene.report([given_back], Released())
    scene.bury("mul", ago_s=1_800)

    document = admin("stats", "-o", "json").document

    last_minute, _, last_hour = document["throughput"]
    nothing = {"timed_out": 0, "cancelled": 0, "expired": 0}
    assert last_minute == {"minutes": 1, "submitted": 0, "completed": 1, "retried": 1, "dead": 0, **nothing}
    assert last_hour == {"minutes": 60, "submitted": 4, "completed": 1, "retried": 1, "dead": 1, **nothing}
    assert ["60 min", "4", "1", "1", "0", "1", "0", "0"] in admin("stats").table


def test_retries_and_dead_letters_are_counted(scene: Scene, admin: Admin) -> None:
    """Retries of the last hour and week; the dead letters that are open."""
    scene.bury(count=2)
    client = scene.connect("ada", "mul")
    scene.submit(NewTask("mul", "1"), ago_s=90_000)
    scene.report(scene.assign(client, "mul", ago_s=90_000), Failed(BOOM), ago_s=90_000)

    document = admin("stats", "-o", "json").document

    assert document["retries"] == {"last_hour": 0, "last_week": 1}
    assert document["dead_letters"] == 2
    assert ["Retries:", "0 in the last hour, 1 in the last week"] in admin("stats").table
    assert ["Dead letters:", "2"] in admin("stats").table


def test_lag_of_the_log_is_shown_if_there_is_one(scene: Scene, admin: Admin) -> None:
    """Lines that the database has and the log was not yet seen to have."""
    scene.bury(count=3)

    assert "3 lines behind" in admin("stats").out
    assert admin("stats", "-o", "json").document["log_lag"] == 3

    scene.apply(Batch(log_position=3))

    assert "behind" not in admin("stats").out


def test_stopped_server_is_told(scene: Scene, admin: Admin) -> None:
    """Nobody holds the store, and the clients are those of the past."""
    scene.connect("ada", "add")

    outcome = admin("stats")

    assert ["Server:", "stopped"] in outcome.table
    assert ["Clients:", "1 idle, 0 busy, 0 dead, as the server last knew them"] in outcome.table
    assert admin("stats", "-o", "json").document["server"] is None


def test_live_server_is_named_and_its_secret_is_not(scene: Scene, admin: Admin) -> None:
    """Address and process of the server that holds the store."""
    with scene.held(HOLDER):
        outcome = admin("stats")
        document = admin("stats", "-o", "json")

    assert ["Server:", "running at 127.0.0.1:12345 (pid 4711)"] in outcome.table
    assert document.document["server"] == {"host": "127.0.0.1", "port": 12345, "pid": 4711}
    assert SECRET not in outcome.out + document.out


def test_killed_server_is_stopped(scene: Scene, admin: Admin) -> None:
    """A record without a lock is what a killed server leaves."""
    scene.announce_dead(HOLDER)

    assert ["Server:", "stopped"] in admin("stats").table


def test_names_cannot_steer_the_terminal(scene: Scene, admin: Admin) -> None:
    """Clients choose names and kinds; neither clears the screen."""
    scene.connect("\x1b[2Jada", "add\x07")
    scene.submit(NewTask("\x9b31m", "1"))
    scene.bury(failure=Failure("\x1b]0;owned"))

    outcome = admin("stats")

    assert all(letter.isprintable() or letter == "\n" for letter in outcome.out)
    assert "\\x1b[2Jada" in outcome.out
    assert admin("stats", "-o", "json").out.isascii()
