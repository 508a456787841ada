"""Clients that are killed, and clients that freeze and come back too late: real ones, at work on a long task."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import pytest
from gmpy2 import mpz  # type: ignore[import-untyped]

from tests.acceptance.cluster import Cluster, Process, end, kill
from tests.faults import oracle, serverlog
from tests.faults.drivers import hand_in
from tests.faults.ledger import Ledger
from tests.wire import Line

HARD: Line = {"kind": "CheckPrime", "payload": str(mpz(2) ** 11_213 - 1), "key": "hard"}
"""A prime that takes a client a second."""

SLACK_S = 1.0
FAST = ("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms")
GRACE = ("--reconnect-grace", "200ms")
RUNNING = "SELECT name FROM assignments JOIN clients ON clients.id = client_id WHERE finished_at IS NULL"

Figure = Callable[[str], None]
at_the_defaults = pytest.mark.soak


@pytest.mark.parametrize(
    ("options", "grace_s"), [((*FAST, *GRACE), 0.2), pytest.param((), 2.0, marks=at_the_defaults)], ids=["fast", "real"]
)
async def test_the_task_of_a_killed_client_is_requeued_after_the_grace(
    cluster: Cluster, ledger: Ledger, options: tuple[str, ...], grace_s: float, figure: Figure
) -> None:
    """Within it and a second, with one retry each; the third time it is a dead letter, and one line of the audit."""
    server = cluster.start_server(*options, *serverlog.JSON)
    await hand_in(cluster.address, ledger, HARD)
    for number, name in enumerate(("first", "second", "third"), start=1):
        kill(_start_and_wait(cluster, name))
        cluster.eventually("it is declared dead", partial(_has_died, cluster, number))
        assert cluster.rows("SELECT retry_count FROM tasks") == [(number,)]

    broken = [event["at"] for event in serverlog.events(cluster.folder, "client.disconnect")]
    died = [at / 1e6 for (at,) in cluster.rows("SELECT finished_at FROM assignments ORDER BY id")]
    waits_s = [end_s - start_s for start_s, end_s in zip(broken, died, strict=True)]
    figure(f"killed client, grace {grace_s:g} s: requeued after {', '.join(f'{wait_s:.2f}' for wait_s in waits_s)} s")
    assert all(grace_s - 0.05 <= wait_s < grace_s + SLACK_S for wait_s in waits_s), waits_s
    assert cluster.rows("SELECT state FROM tasks") == [("dead",)]
    assert end(server) == 0
    assert [event for event, _ in cluster.audit_events()] == ["dead"]
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


@pytest.mark.parametrize(
    ("options", "timeout_s", "dead_within_s"),
    # At the defaults a check each 5 s is all the slack there is.
    [(FAST, 1.5, 1.5 + 0.1 + SLACK_S), pytest.param((), 30.0, 35.0, marks=at_the_defaults)],
    ids=["fast", "real"],
)
async def test_a_frozen_client_is_declared_dead_and_its_late_result_is_stale(
    cluster: Cluster, ledger: Ledger, options: tuple[str, ...], timeout_s: float, dead_within_s: float, figure: Figure
) -> None:
    """After the timeout, and at most a check later; another client has completed its task when it wakes."""
    server = cluster.start_server(*options, *serverlog.JSON)
    await hand_in(cluster.address, ledger, HARD)
    frozen = _start_and_wait(cluster, "frozen")
    frozen.send_signal(signal.SIGSTOP)
    cluster.start_client("other", "--concurrency", "1")
    limit_s = timeout_s + 90
    cluster.eventually(
        "another completes the task", lambda: _states(cluster) == ["completed"] or None, within_s=limit_s
    )
    frozen.send_signal(signal.SIGCONT)
    cluster.eventually("the late result is stale", lambda: "task.stale" in cluster.logs() or None, within_s=90)

    attempts = cluster.rows("SELECT name, outcome FROM assignments JOIN clients ON clients.id = client_id ORDER BY 1")
    assert attempts == [("frozen", "died"), ("other", "completed")]
    ((silent_s,),) = cluster.rows("SELECT (left_at - last_heartbeat_at) / 1e6 FROM clients WHERE why = 'silent'")
    figure(f"frozen client, timeout {timeout_s:g} s: declared dead after {silent_s:.2f} s of silence")
    assert timeout_s <= silent_s < dead_within_s
    assert cluster.rows("SELECT retry_count FROM tasks") == [(1,)]
    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


def _start_and_wait(cluster: Cluster, name: str) -> Process:
    client = cluster.start_client(name, "--concurrency", "1")
    cluster.eventually(f"{name} runs the task", lambda: cluster.rows(RUNNING) == [(name,)] or None)
    return client


def _has_died(cluster: Cluster, times: int) -> bool | None:
    return cluster.rows("SELECT count(*) FROM assignments WHERE outcome = 'died'") == [(times,)] or None


def _states(cluster: Cluster) -> list[str]:
    return [state for (state,) in cluster.rows("SELECT state FROM tasks")]
