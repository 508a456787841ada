"""The files that a server keeps: whose they are, and how its log is rotated while it works."""

from __future__ import annotations

import os
import signal

import pytest

from dtm.storage.auditfiles import rotated
from tests.acceptance.cluster import Cluster, end

pytest_plugins = ("tests.wheel",)


def bury(cluster: Cluster, count: int) -> None:
    """Let tasks die, each of which is a line of the log."""
    payloads = "".join(f"no number {n}\n" for n in range(count))
    cluster.client("submit", "CheckPrime", "-", "--wait", stdin=payloads, code=1)


@pytest.mark.parametrize("umask", [0, 0o022])
def test_every_file_is_its_owners_alone(cluster: Cluster, umask: int) -> None:
    """Database, its write-ahead log and index, lock, record, and log: 0600 whatever the umask says."""
    old = os.umask(umask)
    try:
        server = cluster.start_server()
        cluster.start_client("worker")
        bury(cluster, 1)
        server.send_signal(signal.SIGHUP)
        cluster.eventually("the log is rotated", lambda: rotated(cluster.log))
        bury(cluster, 1)
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in cluster.folder.glob("[!0-9]*") if path.is_file()}

    assert {"tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.db.lock", "tasks.db.server"} < modes.keys()
    assert [name for name, mode in modes.items() if mode != 0o600] == []


def test_a_hangup_rotates_the_log_and_nothing_else(cluster: Cluster) -> None:
    """The server works on, line follows line across the files, and a restart goes on where it stood."""
    server = cluster.start_server()
    cluster.start_client("worker")
    for count in (1, 2):
        bury(cluster, 3)
        server.send_signal(signal.SIGHUP)
        cluster.eventually("the log is rotated", lambda: len(rotated(cluster.log)) == count)  # noqa: B023
    end(server)
    server = cluster.restart_server()
    bury(cluster, 1)
    end(server)

    lines = [line for path in (*rotated(cluster.log), cluster.log) for line in path.read_text().splitlines()]
    assert lines == [line for (line,) in cluster.rows("SELECT line FROM audit ORDER BY seq")]
    assert (len(lines), len(cluster.log.read_text().splitlines())) == (7, 1)


@pytest.mark.parametrize("name", ["tasks.db.lock", "tasks.db.server", "dead-letter-queue.log"])
def test_a_link_in_place_of_a_file_is_refused(cluster: Cluster, name: str) -> None:
    """In one sentence with what to do, within a second, and what it leads to is left alone."""
    target = cluster.folder / "precious"
    target.write_text("precious")
    (cluster.folder / name).symlink_to(target)

    done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)

    assert f"{name}: is a symbolic link" in done.stderr.splitlines()[-1]
    assert target.read_text() == "precious"


@pytest.mark.parametrize("path", ["nowhere/dead.log", "tasks.db.lock/dead.log"])
def test_a_log_in_a_folder_that_is_none_is_refused(cluster: Cluster, path: str) -> None:
    """With the path and what to do."""
    done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", "--dead-letter-log", path, code=1)

    assert f"{path}: the dead-letter log cannot be opened" in done.stderr
    assert "check the path" in done.stderr
