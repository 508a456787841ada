"""Two servers on one file: the second refuses at once, and takes over at once when the first is gone."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.cluster import Cluster, kill
from tests.faults import serverlog

REFUSED_WITHIN_S = 1.0
# What the machine may need beyond that when it is busy: the promise is about waiting, not about starting a program.
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
