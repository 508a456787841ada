"""More connections than usual: many that are idle, more than there may be, and more than there are descriptors."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle, serverlog
from tests.faults.crowd import PING, Visitor, crowd, descriptors, resident
from tests.faults.ledger import Ledger
from tests.server.live import failure, registration, submission
from tests.waiting import in_the_end

KIB = 1024


@pytest.mark.parametrize(
    ("count", "timeout_s"), [(1_000, 3.0), pytest.param(1_000, 30.0, marks=pytest.mark.soak)], ids=["scaled", "real"]
)
def test_a_thousand_idle_clients_cost_little_and_none_is_taken_for_dead(
    cluster: Cluster, count: int, timeout_s: float, figure: Callable[[str], None]
) -> None:
    """They ping, and have nothing else to say, for two heartbeat timeouts."""
    beat = ("--heartbeat-interval", f"{timeout_s / 3}s", "--heartbeat-timeout", f"{timeout_s}s")
    server = cluster.start_server(*beat, *serverlog.JSON)
    before = resident(server.pid)
    with crowd(cluster.address, count) as clients:
        for number, client in enumerate(clients):
            client.say(registration("A", name=f"idle-{number}"))
        for client in clients:
            answer = client.hear()
            assert answer is not None
            assert answer["type"] == "RegisterResponse"
        give_up_s = time.monotonic() + 2 * timeout_s
        while time.monotonic() < give_up_s:
            began_s = time.monotonic()
            for client in clients:
                assert client.ask(PING) == {"type": "PingResponse", "timestamp": None}
            time.sleep(max(0.0, began_s + timeout_s / 3 - time.monotonic()))
        each = (resident(server.pid) - before) / count

        assert cluster.rows("SELECT count(*) FROM clients WHERE left_at IS NULL") == [(count,)]
    figure(f"{count:,} idle clients: {each / KIB:.0f} KiB each")
    assert each < 64 * KIB
    assert serverlog.events(cluster.folder, "client.died") == []
    assert end(server) == 0


@pytest.mark.parametrize(
    ("most", "come"), [(200, 500), pytest.param(2_000, 5_000, marks=pytest.mark.soak)], ids=["scaled", "real"]
)
def test_the_surplus_is_refused_with_a_reason_and_the_operator_gets_in(
    cluster: Cluster, ledger: Ledger, most: int, come: int
) -> None:
    """Those who are in are served as before; who comes when somebody has left is served too."""
    _allow_this_process(come + 1_000)
    server = cluster.start_server("--max-connections", str(most), "--max-unauthenticated", str(come), *serverlog.JSON)
    with crowd(cluster.address, come) as visitors:
        answers = [visitor.ask(PING) for visitor in visitors]
        served = [visitor for visitor, answer in zip(visitors, answers, strict=True) if answer and "code" not in answer]
        refused = [answer for answer in answers if answer and answer.get("code") == "too-many-connections"]
        assert (len(served), len(refused)) == (most, come - most)
        assert all("connections" in answer["message"] for answer in refused)

        worker, producer = served[1:3]
        assert worker.ask(registration("A")) is not None
        _submit_one_that_dies(worker, producer, ledger, 1)
        cluster.finish("dtm-admin", "deadletter", "reprocess", "--all", "--yes")
        again = worker.hear()
        assert again is not None
        assert again["type"] == "Task"
        served[0].close()
        in_the_end(lambda: _is_served(cluster))
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


def test_silent_strangers_keep_nobody_out(cluster: Cluster) -> None:
    """However many connect and say nothing: whoever speaks is served, and the oldest of them are told to go."""
    server = cluster.start_server("--max-unauthenticated", "50", *serverlog.JSON)
    with crowd(cluster.address, 300) as silent:
        assert _is_served(cluster)
        farewells = [visitor.hear() for visitor in silent[:200]]
    assert {answer["code"] for answer in farewells if answer is not None} == {"too-many-connections"}
    assert len([answer for answer in farewells if answer is not None]) == 200
    assert end(server) == 0


def test_without_descriptors_accepting_waits_and_the_others_are_served(cluster: Cluster, ledger: Ledger) -> None:
    """Tasks come, die and are logged meanwhile: what the database and the log need is open. Then all are let in."""
    server = cluster.start_server("--max-retries", "1", *serverlog.JSON)
    with crowd(cluster.address, 2) as (worker, producer):
        welcome = worker.ask(registration("A", capacity=100))
        assert welcome is not None
        assert producer.ask(PING) is not None
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (descriptors(server.pid) + 5, hard))
        with crowd(cluster.address, 40) as waiting:
            for visitor in waiting:
                visitor.say(PING)
            in_the_end(lambda: len(serverlog.events(cluster.folder, "listener.paused")) > 2)
            for number in range(50):
                _submit_one_that_dies(worker, producer, ledger, number)
            in_the_end(lambda: cluster.log.exists() and len(cluster.log.read_bytes().splitlines()) == 50)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (1_000, hard))
            for visitor in waiting:
                assert visitor.hear() == {"type": "PingResponse", "timestamp": None}
        assert _is_served(cluster)
    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="wanted prlimit of util-linux")
def test_a_server_that_may_open_few_files_takes_fewer_connections_and_says_so(cluster: Cluster) -> None:
    """Those beyond are told why, where they would wait for a descriptor in silence."""
    command = ["prlimit", "--nofile=100:150", str(cluster.program("dtm-server")), "--port", "0", *serverlog.JSON]
    with (cluster.folder / "0-dtm-server.log").open("wb") as stderr:
        server = subprocess.Popen(command, cwd=cluster.folder, stderr=stderr)
    try:
        (listening,) = in_the_end(lambda: serverlog.events(cluster.folder, "listening"), within_s=30)
        (limited,) = serverlog.events(cluster.folder, "connections.limited")
        assert (limited["wanted"], limited["possible"]) == (2_000, 22)
        with ExitStack() as stack:
            answers = [stack.enter_context(crowd(listening["address"], 1))[0].ask(PING) for _ in range(40)]
        assert [answer is not None and "code" in answer for answer in answers] == [False] * 22 + [True] * 18
        assert serverlog.events(cluster.folder, "listener.paused") == []
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _submit_one_that_dies(worker: Visitor, producer: Visitor, ledger: Ledger, number: int) -> None:
    tasks = ledger.intend([{"kind": "A", "payload": number, "key": f"k{number}", "max_retries": 1}])
    answer = producer.ask(submission(*tasks))
    assert answer is not None
    ledger.acknowledge(tasks, answer["ids"])
    task = worker.hear()
    assert task is not None
    verdict = worker.ask(ledger.send(failure(task)))
    assert verdict is not None
    ledger.hear(verdict)


def _is_served(cluster: Cluster) -> bool:
    visitor = Visitor(cluster.address)
    answer = visitor.ask(PING)
    visitor.close()
    return answer is not None and answer["type"] == "PingResponse"


def _allow_this_process(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"wanted {count:,} descriptors for this process, and it may have {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
