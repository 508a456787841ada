"""The dead-letter log under a live server: whatever is done to it, tasks flow, and it is exact in the end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dtm.storage.auditfiles import rotated
from tests.acceptance.cluster import Cluster, end, kill

# What a log, a terminal or a reader of lines could take for more than text.
NASTY = '\r\n\x1b[2J\x1b]0;owned\x07\x85\u2028\u2029\x00\x7f"\\,"crc":"\U0001f4a3'


def bury(cluster: Cluster, count: int = 1, payload: str = "no number") -> None:
    """Let tasks die; each is an event of the log."""
    cluster.client("submit", "CheckPrime", "--json", "-", "--wait", stdin=f"{json.dumps(payload)}\n" * count, code=1)


def rows(cluster: Cluster) -> list[str]:
    """Give the lines that the log is to have."""
    return [line for (line,) in cluster.rows("SELECT line FROM audit ORDER BY seq")]


def lines(cluster: Cluster) -> list[str]:
    """Give the lines that all files of the log have, split where the log itself ends a line and nowhere else."""
    files = [*rotated(cluster.log), cluster.log]
    return "".join(file.read_text("ascii") for file in files if file.is_file()).split("\n")[:-1]


def _delete(log: Path) -> None:
    log.unlink()


def _rename(log: Path) -> None:
    log.rename(log.with_name(f"{log.name}.{len(rotated(log)) + 1}"))


def _tear(log: Path) -> None:
    os.truncate(log, log.stat().st_size - 10)


def _empty(log: Path) -> None:
    log.write_bytes(b"")


def _scribble(log: Path) -> None:
    with log.open("a") as file:
        file.write("a note\n")


def _replace(log: Path) -> None:
    copy = log.with_name("copy")
    copy.write_bytes(log.read_bytes())
    copy.replace(log)


@pytest.mark.parametrize("harm", [_delete, _rename, _tear, _empty, _scribble, _replace])
def test_a_log_that_was_harmed_is_exact_again(cluster: Cluster, harm: Callable[[Path], None]) -> None:
    """With the next event, and so after a kill."""
    server = cluster.start_server()
    cluster.start_client("worker")
    bury(cluster, 3)
    cluster.eventually("the log is written", lambda: len(lines(cluster)) == 3)
    harm(cluster.log)
    bury(cluster, 2)
    cluster.eventually("the log is exact", lambda: lines(cluster) == rows(cluster))
    harm(cluster.log)
    kill(server)
    cluster.restart_server()

    cluster.eventually("the log is exact after a restart", lambda: lines(cluster) == rows(cluster))
    verified = cluster.admin("audit", "verify")
    assert (verified["equal"], verified["lines"], verified["before"]) == (True, 5, 0)


def _folder(log: Path) -> None:
    log.mkdir()


def _link(log: Path) -> None:
    log.symlink_to("precious")


def _diary(log: Path) -> None:
    log.write_text("Dear diary\n")


@pytest.mark.parametrize("put", [_folder, _link, _diary])
def test_a_log_that_cannot_be_written_stops_no_task(cluster: Cluster, put: Callable[[Path], None]) -> None:
    """The server tells of it, shows how far the log is behind, and catches up once it can; what stood there stays."""
    precious = cluster.folder / "precious"
    precious.write_text("precious")
    cluster.start_server("--heartbeat-check", "100ms")
    cluster.start_client("worker")
    bury(cluster)
    cluster.eventually("the log is written", lambda: len(lines(cluster)) == 1)
    cluster.log.unlink()
    put(cluster.log)
    bury(cluster, 2)
    cluster.eventually("it is told", lambda: "dead-letter-log.trouble" in cluster.logs())
    assert cluster.client("submit", "HashText", "hello", "--wait").startswith("2cf24dba")
    assert cluster.admin("stats")["log_lag"] == 2
    assert precious.read_text() == "precious"
    assert not cluster.log.is_file() or cluster.log.is_symlink() or cluster.log.read_text() == "Dear diary\n"
    cluster.log.rmdir() if cluster.log.is_dir() else cluster.log.unlink()

    cluster.eventually("the log is exact", lambda: lines(cluster) == rows(cluster) and len(rows(cluster)) == 3)
    cluster.eventually("it is told", lambda: "dead-letter-log.recovered" in cluster.logs())


def test_whatever_a_payload_holds_is_one_line(cluster: Cluster) -> None:
    """CR, LF, escapes of a terminal, other ends of lines: each event is one line of ASCII, and reads back as it was."""
    payload = NASTY.replace("\x00", "")  # the store's texts hold no NUL
    cluster.start_server()
    cluster.start_client("worker")
    bury(cluster, 2, payload)
    cluster.eventually("the log is written", lambda: lines(cluster) == rows(cluster) and len(rows(cluster)) == 2)
    text = cluster.log.read_bytes()

    assert text.count(b"\n") == 2
    assert not set(text) - set(range(0x20, 0x80)) - {0x0A}
    assert [json.loads(json.loads(line)["payload"]) for line in lines(cluster)] == [payload] * 2
    assert cluster.admin("audit", "verify")["equal"] is True


def test_kills_and_rotations_at_random_lose_and_repeat_nothing(cluster: Cluster) -> None:
    """The log over all its files is exact after each start."""
    server = cluster.start_server()
    for turn in range(4):
        cluster.start_client(f"worker-{turn}")
        bury(cluster, 2)
        server.send_signal(signal.SIGHUP)
        kill(server)
        server = cluster.restart_server()
        assert lines(cluster) == rows(cluster)
    assert end(server) == 0

    assert (len(lines(cluster)), cluster.admin("audit", "verify")["equal"]) == (8, True)
