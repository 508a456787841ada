"""Nothing acknowledged is lost, and every task ends once, whoever is killed."""

from __future__ import annotations

import hashlib
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from gmpy2 import mpz  # type: ignore[import-untyped]

from tests.acceptance.cluster import Cluster, end, kill

pytest_plugins = ("tests.wheel",)

HARD_NUMBER = str(mpz(2) ** 23_209 - 1)
"""A prime that takes a client seconds: long enough to be killed in."""


def test_three_clients_share_the_work(cluster: Cluster) -> None:
    """Each of three clients completes a part of the tasks, every result is right, and no task runs twice."""
    cluster.start_server()
    for number in range(3):
        cluster.start_client(f"client-{number}", "--prefetch", "0")
    words = [f"word {number}" for number in range(3_000)]

    printed = cluster.client("submit", "HashText", "-", "--wait", stdin="\n".join(words)).splitlines()

    assert printed == [hashlib.sha256(word.encode()).hexdigest() for word in words]
    shares = cluster.rows(
        "SELECT name, count(*) FROM assignments JOIN clients ON clients.id = client_id"
        " WHERE outcome = 'completed' GROUP BY name"
    )
    assert sum(share for _, share in shares) == len(words)
    assert {name for name, share in shares if share > 300} == {"client-0", "client-1", "client-2"}
    cluster.check_books()


def test_task_of_a_killed_client_is_finished_by_another(cluster: Cluster) -> None:
    """kill -9 of a client at work costs its task one retry, and another client finishes it."""
    cluster.start_server()
    clients = {name: cluster.start_client(name, "--concurrency", "1") for name in ("one", "two")}
    task_id = int(cluster.client("submit", "CheckPrime", "-", stdin=HARD_NUMBER))
    victim = cluster.eventually("somebody has taken the task", lambda: _holder(cluster, task_id))

    kill(clients.pop(victim))
    answer = cluster.client("result", str(task_id), "--wait")

    assert answer == "true\n"
    task = cluster.admin("tasks", "show", str(task_id))
    (survivor,) = clients
    assert [(attempt["client"], attempt["outcome"]) for attempt in task["attempts"]] == [
        (victim, "died"),
        (survivor, "completed"),
    ]
    assert (task["state"], task["retry_count"]) == ("completed", 1)
    dead = [client for client in cluster.admin("stats")["clients"] if client["status"] == "dead"]
    assert [(client["name"], client["tasks"]) for client in dead] == [(victim, [task_id])]


def test_killed_server_loses_nothing_it_acknowledged(cluster: Cluster) -> None:
    """Submitters and clients live through kill -9 of the server again and again; each task is done once."""
    server = cluster.start_server()
    for name in ("one", "two"):
        cluster.start_client(name)
    words = [f"line {number}" for number in range(20_000)]

    with ThreadPoolExecutor(1) as background:
        submitted: Future[str] = background.submit(
            cluster.client, "submit", "HashText", "-", "--wait", stdin="\n".join(words)
        )
        for goal in (2_000, 6_000, 10_000):
            cluster.eventually(f"{goal} tasks are completed", partial(_has_completed, cluster, goal))
            kill(server)
            server = cluster.restart_server()
        printed = submitted.result().splitlines()

    assert printed == [hashlib.sha256(word.encode()).hexdigest() for word in words]
    assert _completed(cluster) == len(words)
    assert cluster.rows("SELECT count(*), count(DISTINCT key) FROM tasks") == [(len(words), len(words))]
    assert cluster.rows("SELECT count(*) FROM tasks WHERE retry_count > 0") == [(0,)]
    cluster.check_books()


def test_restarted_server_leaves_running_tasks_to_their_clients(cluster: Cluster) -> None:
    """A client that runs a task while the server is killed keeps it, and its result counts without another attempt."""
    server = cluster.start_server()
    cluster.start_client("worker", "--concurrency", "1")
    task_id = int(cluster.client("submit", "CheckPrime", "-", stdin=HARD_NUMBER))
    cluster.eventually("the task is taken", lambda: _holder(cluster, task_id))

    kill(server)
    cluster.restart_server()
    answer = cluster.client("result", str(task_id), "--wait")

    assert answer == "true\n"
    task = cluster.admin("tasks", "show", str(task_id))
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["completed"]
    assert task["retry_count"] == 0


def test_terminated_server_drains(cluster: Cluster) -> None:
    """SIGTERM lets a running task finish, loses nothing, and ends with exit code 0."""
    server = cluster.start_server()
    cluster.start_client("worker", "--concurrency", "1")
    task_id = int(cluster.client("submit", "CheckPrime", "-", stdin=HARD_NUMBER))
    cluster.eventually("the task is taken", lambda: _holder(cluster, task_id))

    code = end(server)

    assert code == 0
    assert not cluster.db.with_name("tasks.db-wal").exists()
    assert cluster.rows("SELECT state, retry_count FROM tasks") == [("completed", 0)]


def test_drain_hands_back_what_takes_too_long_without_blame(cluster: Cluster) -> None:
    """At the end of the shutdown timeout running tasks go back to waiting, their retry count as before."""
    server = cluster.start_server("--shutdown-timeout", "100ms")
    cluster.start_client("worker", "--concurrency", "1")
    task_id = int(cluster.client("submit", "CheckPrime", "-", stdin=HARD_NUMBER))
    cluster.eventually("the task is taken", lambda: _holder(cluster, task_id))

    code = end(server)

    assert code == 0
    assert cluster.rows("SELECT state, retry_count FROM tasks") == [("pending", 0)]
    assert cluster.rows("SELECT outcome FROM assignments") == [("released",)]


def test_interrupted_client_finishes_and_says_goodbye(cluster: Cluster) -> None:
    """Ctrl-C lets a client finish what runs and report it, then leave; it exits with 0."""
    cluster.start_server()
    worker = cluster.start_client("worker", "--concurrency", "1", "--prefetch", "3")
    ids = cluster.client("submit", "CheckPrime", "-", stdin="\n".join([HARD_NUMBER] * 3)).split()
    cluster.eventually("a task is taken", lambda: _holder(cluster, int(ids[0])))

    code = end(worker, signal.SIGINT)

    assert code == 0
    assert cluster.rows("SELECT state, retry_count FROM tasks ORDER BY id") == [
        ("completed", 0),
        ("pending", 0),
        ("pending", 0),
    ]
    assert cluster.rows("SELECT why FROM clients") == [("goodbye",)]


def _holder(cluster: Cluster, task_id: int) -> str | None:
    running = cluster.rows(
        "SELECT name FROM assignments JOIN clients ON clients.id = client_id"
        f" WHERE task_id = {task_id} AND finished_at IS NULL"
    )
    return running[0][0] if running else None


def _has_completed(cluster: Cluster, goal: int) -> bool | None:
    return _completed(cluster) >= goal or None


def _completed(cluster: Cluster) -> int:
    ((completed,),) = cluster.rows("SELECT count(*) FROM tasks WHERE state = 'completed'")
    return int(completed)
