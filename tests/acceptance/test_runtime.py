"""Coroutines, threads and processes of a real worker: what ends a task, and what a task cannot end."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import DEADLINE_S, Cluster, Process, end, kill

pytest_plugins = ("tests.wheel",)

# What the task API promises is a tenth of a second. On a machine that several others share, a scheduler may need more.
PROMPT_S = 2.0


class Wire:
    """A connection to the server, spoken by hand."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        self._lines = self._socket.makefile("rb")

    def ask(self, name: str, **fields: Any) -> Any:
        """Send a message, and give the next that comes."""
        self._socket.sendall(json.dumps({"type": name, "ref": 1, **fields}).encode() + b"\n")
        return json.loads(self._lines.readline())

    def submit(self, kind: str, payload: Any, **fields: Any) -> int:
        """Submit a task, and give its id."""
        task = {"kind": kind, "payload": payload, "max_retries": 1, **fields}
        (task_id,) = self.ask("Submit", tasks=[task])["ids"]
        return int(task_id)

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()


@contextmanager
def connected(cluster: Cluster) -> Iterator[Wire]:
    """Speak with the server as long as the context lasts."""
    wire = Wire(cluster.address)
    try:
        yield wire
    finally:
        wire.close()


@pytest.fixture
def crew(cluster: Cluster) -> Process:
    """A worker that runs what is in `crew.py`, and its server."""
    shutil.copy(Path(__file__).with_name("crew.py"), cluster.folder)
    cluster.start_server()
    process, log = cluster.start("python", "crew.py", cluster.address)
    cluster.eventually("the crew is registered", lambda: "registered" in log.read_text(), of=process, log=log)
    return process


def noted(cluster: Cluster, name: str, what: str) -> tuple[float, int]:
    """Wait until a task has noted something; give when, and in which process."""
    path = cluster.folder / f"{name}.{what}"
    cluster.eventually(f"{name} has {what}", path.exists)
    moment, pid = path.read_text().split()
    return float(moment), int(pid)


def ended(cluster: Cluster, task_id: int) -> Any:
    """Wait until a task has ended, and give all that is known of it."""

    def look() -> Any:
        task = cluster.admin("tasks", "show", str(task_id))
        return task if task["state"] in ("completed", "dead", "cancelled", "expired") else None

    return cluster.eventually(f"task {task_id} has ended", look)


def is_alive(pid: int) -> bool:
    """Say whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("kind", ["wait", "sleep", "look"])
def test_a_cancel_reaches_a_running_task_at_once(cluster: Cluster, crew: Process, kind: str) -> None:
    """A coroutine, a process, and a thread that looks: each ends, and its task is cancelled without another try."""
    with connected(cluster) as wire:
        task_id = wire.submit(kind, "task", max_retries=5)
        noted(cluster, "task", "begun")
        asked_at = time.time()
        answer = wire.ask("CancelRequest", ids=[task_id])
        heard_s = noted(cluster, "task", "ended")[0] - asked_at

    assert answer["states"] == ["assigned"]
    assert heard_s < PROMPT_S
    task = ended(cluster, task_id)
    assert (task["state"], len(task["attempts"])) == ("cancelled", 1)
    assert end(crew) == 0


@pytest.mark.parametrize("kind", ["wait", "sleep"])
def test_a_task_past_its_timeout_is_ended(cluster: Cluster, crew: Process, kind: str) -> None:
    """By the server's clock and by the worker's, whichever is first; a process is gone then."""
    with connected(cluster) as wire:
        task_id = wire.submit(kind, "task", timeout=1.0)
        began_at, pid = noted(cluster, "task", "begun")
        ended_at, _ = noted(cluster, "task", "ended")

    assert ended_at - began_at < 1.0 + PROMPT_S
    task = ended(cluster, task_id)
    assert task["state"] == "dead"
    assert "TimeoutError" in json.dumps(task)
    if kind == "sleep":
        cluster.eventually("the process is gone", lambda: not is_alive(pid))
    with connected(cluster) as wire:
        assert ended(cluster, wire.submit("add", [1, 2]))["state"] == "completed"


def test_threads_past_their_timeouts_hold_up_no_other_slot(cluster: Cluster, crew: Process) -> None:
    """Each takes one place until it returns, not two: of four slots two are left."""
    with connected(cluster) as wire:
        for hanging in [wire.submit("hang", name, timeout=0.5) for name in ("one", "two")]:
            assert ended(cluster, hanging)["state"] == "dead"
        cluster.eventually("the crew knows that", lambda: cluster.logs().count("task.overran") == 2)
        assert ended(cluster, wire.submit("add", [1, 2]))["state"] == "completed"
    kill(crew)


@pytest.mark.parametrize(("kind", "payload", "words"), [("crash", None, "killed by SIGSEGV"), ("leave", 7, "code 7")])
def test_a_task_that_ends_its_process_is_a_dead_letter(
    cluster: Cluster, crew: Process, kind: str, payload: Any, words: str
) -> None:
    """With the way it ended; its client lives, and runs the next one."""
    with connected(cluster) as wire:
        task_id = wire.submit(kind, payload)
        task = ended(cluster, task_id)
        assert ended(cluster, wire.submit("add", [1, 2]))["state"] == "completed"

    assert task["state"] == "dead"
    assert words in json.dumps(task)
    assert [event for event, _ in cluster.audit_events()] == ["dead"]
    assert end(crew) == 0


def test_no_process_outlives_its_client(cluster: Cluster, crew: Process) -> None:
    """kill -9 of the client is the end of what runs in its processes, before the task runs elsewhere."""
    with connected(cluster) as wire:
        wire.submit("sleep", "task")
    _, pid = noted(cluster, "task", "begun")
    kill(crew)

    cluster.eventually("the process is gone", lambda: not is_alive(pid))
    assert not (cluster.folder / "task.ended").exists()
