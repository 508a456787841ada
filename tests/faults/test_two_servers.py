"""Two servers on one file: the second refuses at once, and takes over at once when the first is gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest

from dtm.server.app import LOCK_WAIT_S
from tests.acceptance.cluster import Cluster, kill
from tests.faults import serverlog

REFUSED_WITHIN_S = 1.0
# What a busy machine may need beyond that, as here the promise is about waiting and not about starting a program.
SLACK_S = 3.0


@pytest.mark.parametrize("beside", ["tasks.db", "link.db"])
def test_the_second_server_refuses_and_takes_over_after_the_kill(cluster: Cluster, beside: str) -> None:
    """Also by another name of the file. It names the holder, harms nothing, and needs no waiting afterwards."""
    first = cluster.start_server(*serverlog.JSON)
    (cluster.folder / "link.db").symlink_to("tasks.db")
    before_s = time.monotonic()
    second, log = cluster.start("dtm-server", "--db", beside, "--port", "0", "--dead-letter-log", "other.log")
    code = second.wait(30)
    took_s = time.monotonic() - before_s

    assert code == 1
    assert f"in use by the server with pid {first.pid} at {cluster.address}" in log.read_text()
    assert took_s < REFUSED_WITHIN_S + SLACK_S
    assert not (cluster.folder / "other.log").exists()
    cluster.client("submit", "HashText", "still here")
    kill(first)
    before_s = time.monotonic()
    cluster.start_server()
    assert time.monotonic() - before_s < REFUSED_WITHIN_S + SLACK_S
    assert cluster.rows("SELECT count(*) FROM tasks") == [(1,)]


def test_a_refusal_takes_less_than_a_second_from_the_command_on(
    cluster: Cluster, figure: Callable[[str], None]
) -> None:
    """Interpreter, imports and the wait for the lock included; the rest by the processor's time, as others work too."""
    cluster.start_server()
    refusals = [_refusal(cluster) for _ in range(3)]

    figure(
        f"a second server is refused after {', '.join(f'{cpu_s:.2f} s of CPU ({s:.2f} s)' for cpu_s, s in refusals)}"
    )
    assert min(refusals)[0] + LOCK_WAIT_S < REFUSED_WITHIN_S


def _refusal(cluster: Cluster) -> tuple[float, float]:
    """Start a second server, as anybody does, and give what its refusal took: seconds of CPU, and in all."""
    began_s = time.monotonic()
    second = subprocess.Popen(
        [cluster.program("dtm-server"), "--db", "tasks.db", "--port", "0"],
        cwd=cluster.folder,
        stderr=subprocess.PIPE,
    )
    with second:
        assert second.stderr is not None
        said = second.stderr.read()
        _, status, used = os.wait4(second.pid, 0)
        second.returncode = os.waitstatus_to_exitcode(status)
    assert second.returncode == 1
    assert b"is in use by" in said
    return used.ru_utime + used.ru_stime, time.monotonic() - began_s
