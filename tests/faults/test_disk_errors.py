"""A disk that fails under the server: strace makes a sync or a write of the write-ahead log fail with EIO."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import ECHO, Producer, Worker, at_work, dial
from tests.faults.ledger import Ledger
from tests.server.live import submission
from tests.waiting import eventually, in_the_end
from tests.wire import Line

OPTIONS = ("--retry-backoff", "10ms..20ms", *serverlog.JSON)
TASK: Line = {"kind": ECHO, "payload": "on the edge", "key": "k"}
END_WITHIN_S = 1.0
INJECTED = re.compile(r"(\d+\.\d+) .* \(INJECTED\)")
EXITED = re.compile(r"(\d+\.\d+) \+\+\+ exited with (\d+) \+\+\+")

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None or os.geteuid() != 0, reason="wanted strace, and root to attach it to a process"
)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
async def test_a_batch_that_meets_an_error_is_answered_by_nobody(cluster: Cluster, ledger: Ledger, call: str) -> None:
    """Neither acknowledged nor refused, for it may be on disk or not; the server ends, and the next one knows."""
    server = await _start(cluster)
    async with dial(cluster.address) as producer:
        with _failing(server, cluster, call, when=1) as trace:
            await producer.say(submission(*ledger.intend([TASK])))
            assert await producer.hear_all() == []
        _ends_soon(server, trace)
    server = await to_thread.run_sync(lambda: cluster.restart_server(*OPTIONS))
    async with dial(cluster.address) as producer:
        await producer.say(submission(TASK))
        ledger.acknowledge([TASK], (await producer.expect("SubmitResponse"))["ids"])

    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


async def test_under_load_too(cluster: Cluster, ledger: Ledger, chance: random.Random) -> None:
    """Ten times, at a sync or a write of random number: the server ends at once, and nothing is lost or refused."""
    server = await _start(cluster)
    producers = [Producer(cluster.address, ledger, chance, f"p{number}", [ECHO]) for number in range(4)]
    workers = [Worker(cluster.address, ledger, chance, f"w{number}") for number in range(4)]
    async with at_work(*producers, *workers):
        for _ in range(10):
            call, when = chance.choice(["fdatasync", "pwrite64"]), chance.randint(1, 20)
            trace = await to_thread.run_sync(_fail, server, cluster, call, when)
            _ends_soon(server, trace, within_s=5 * END_WITHIN_S)  # all others are busy too
            oracle.check_running(cluster.db, cluster.log, ledger)
            server = await to_thread.run_sync(lambda: cluster.restart_server(*OPTIONS))
        for producer in producers:
            await producer.stop()
        await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=60)

    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"


async def _start(cluster: Cluster) -> Process:
    return await to_thread.run_sync(lambda: cluster.start_server(*OPTIONS))


def _fail(server: Process, cluster: Cluster, call: str, when: int) -> Path:
    with _failing(server, cluster, call, when=when) as trace:
        pass
    return trace


@contextmanager
def _failing(server: Process, cluster: Cluster, call: str, *, when: int) -> Iterator[Path]:
    """Let one call on the write-ahead log fail; wait until the server has ended, or see it fail to."""
    trace = cluster.folder / "strace.log"
    wal = cluster.db.with_name("tasks.db-wal")
    command: list[str | Path] = ["strace", "-f", "-ttt", "-o", trace, "-P", wal, "-e", f"trace={call}"]
    inject = ["-e", f"inject={call}:error=EIO:when={when}", "-p", str(server.pid)]
    with subprocess.Popen([*command, *inject], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        while "attached" not in (line := strace.stderr.readline()):
            assert line, "strace cannot attach"
        try:
            yield trace
            in_the_end(lambda: server.poll() is not None, within_s=30)
        finally:
            strace.terminate()


def _ends_soon(server: Process, trace: Path, *, within_s: float = END_WITHIN_S) -> None:
    text = trace.read_text()
    injected, exited = INJECTED.search(text), EXITED.findall(text)
    assert injected is not None
    assert exited
    assert server.wait(0) != 0
    took_s = float(exited[-1][0]) - float(injected[1])
    assert took_s < within_s, text
