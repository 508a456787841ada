"""A task that cannot succeed ends where an operator finds it, with its reason, and comes back when told to."""

from __future__ import annotations

import hashlib
from functools import partial

from gmpy2 import mpz  # type: ignore[import-untyped]

from tests.acceptance.cluster import Cluster, end, kill

pytest_plugins = ("tests.wheel",)

HARD_NUMBER = str(mpz(2) ** 23_209 - 1)
RUNNING = "SELECT (SELECT count(*) FROM assignments) FROM assignments WHERE finished_at IS NULL"
FAST_RETRIES = ("--retry-backoff", "10ms..20ms")


def test_failing_task_dies_with_its_third_execution(cluster: Cluster) -> None:
    """Three failed executions make a dead letter: a row, a line of the log, and the reason for whoever waits."""
    cluster.start_server(*FAST_RETRIES)
    cluster.start_client("broken", "--failure-rate", "1")

    done = cluster.finish("dtm-client", "submit", "HashText", "hello", "--wait", "--server", cluster.address, code=1)

    assert done.stdout == "\n"
    assert "task 1 died: SimulatedFailure" in done.stderr
    task = cluster.admin("tasks", "show", "1")
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["failed"] * 3
    assert (task["state"], task["retry_count"]) == ("dead", 3)
    (letter,) = cluster.admin("deadletter", "list")["dead_letters"]
    assert (letter["task_id"], letter["kind"], letter["reason"]) == (1, "HashText", "failed")
    cluster.eventually("the log has the line", lambda: cluster.log.read_text() or None)
    assert cluster.audit_events() == [("dead", 1)]


def test_bad_payload_dies_at_once(cluster: Cluster) -> None:
    """What no attempt can make better is not tried again."""
    cluster.start_server(*FAST_RETRIES)
    cluster.start_client("worker")

    cluster.client("submit", "CheckPrime", "seven", "--wait", code=1)

    task = cluster.admin("tasks", "show", "1")
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["failed"]
    assert task["state"] == "dead"


def test_poisoned_task_stops_killing_clients(cluster: Cluster) -> None:
    """A task that three clients hold as they die is dead, and the log names the last of them."""
    cluster.start_server("--reconnect-grace", "100ms")
    task_id = int(cluster.client("submit", "CheckPrime", "-", stdin=HARD_NUMBER))

    for attempt, name in enumerate(("first", "second", "third"), start=1):
        worker = cluster.start_client(name)
        cluster.eventually(f"{name} has the task", partial(_runs_attempt, cluster, attempt))
        kill(worker)
        cluster.eventually(f"{name} is dead", lambda: cluster.rows(RUNNING) == [] or None)

    task = cluster.admin("tasks", "show", str(task_id))
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["died"] * 3
    assert task["state"] == "dead"
    cluster.eventually("the log has the line", lambda: cluster.log.read_text() or None)
    assert cluster.audit_events() == [("dead", task_id)]
    assert '"client":"third"' in cluster.log.read_text()


def test_dead_letter_is_reprocessed_by_a_live_server(cluster: Cluster) -> None:
    """`deadletter reprocess` goes through the running server: same id, history kept, and a new chance at once."""
    cluster.start_server(*FAST_RETRIES)
    broken = cluster.start_client("broken", "--failure-rate", "1")
    cluster.client("submit", "HashText", "hello", "--wait", code=1)
    end(broken)
    cluster.start_client("healthy")

    answer = cluster.admin("deadletter", "reprocess", "1", "--yes")

    assert answer["done"] == 1
    assert cluster.client("result", "1", "--wait") == hashlib.sha256(b"hello").hexdigest() + "\n"
    task = cluster.admin("tasks", "show", "1")
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["failed"] * 3 + ["completed"]
    cluster.eventually("the log has both lines", lambda: cluster.log.read_text().count("\n") == 2 or None)
    assert cluster.audit_events() == [("dead", 1), ("reprocessed", 1)]
    cluster.check_books()


def test_dead_letters_are_settled_with_the_server_stopped(cluster: Cluster) -> None:
    """Both commands work on the file alone; the next server writes the log and runs what was reprocessed."""
    server = cluster.start_server(*FAST_RETRIES)
    worker = cluster.start_client("worker")
    cluster.client("submit", "CheckPrime", "-", "--wait", stdin="seven\neight\n", code=1)
    end(worker)
    end(server)

    cleared = cluster.admin("deadletter", "clear", "1", "--yes")
    reprocessed = cluster.admin("deadletter", "reprocess", "--all", "--yes")

    assert (cleared["done"], reprocessed["done"]) == (1, 1)
    assert cluster.rows("SELECT id, state FROM tasks") == [(2, "pending")]
    cluster.start_server()
    events = cluster.audit_events()
    # Two slots ran the two tasks at the same time; either may have died first.
    assert sorted(events[:2]) == [("dead", 1), ("dead", 2)]
    assert events[2:] == [("cleared", 1), ("reprocessed", 2)]
    cluster.check_books()


def test_cleared_task_is_gone(cluster: Cluster) -> None:
    """`deadletter clear` on a live server removes the task; who asks for it is told so."""
    cluster.start_server()
    cluster.start_client("worker")
    cluster.client("submit", "CheckPrime", "seven", "--wait", code=1)

    cluster.admin("deadletter", "clear", "--error", "wanted an INTEGER", "--yes")

    cluster.client("result", "1", code=4)
    cluster.finish("dtm-admin", "tasks", "show", "1", code=4)
    assert cluster.admin("deadletter", "list")["dead_letters"] == []


def _runs_attempt(cluster: Cluster, number: int) -> bool | None:
    return cluster.rows(RUNNING) == [(number,)] or None
