"""The pool: real processes, which run tasks, crash, hang and are ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from dtm.client.current import CurrentTask
from dtm.client.failures import Failure
from dtm.client.handlers import Handler, Returned, Success
from dtm.client.pool.process import _started
from dtm.client.pool.processes import Processes
from dtm.client.pool.speech import Answer, Channel, Order, Setup
from dtm.client.slots import threads
from dtm.client.verdicts import Reject
from dtm.client.work import StopReason, Work
from dtm.protocol.framing import MAX_VALUE
from tests.client.gates import harvested
from tests.client.pool.samples import HANDLERS, SOURCE
from tests.waiting import LONG_S, in_the_end

# A process has to start and to import; on a machine that is busy that takes its time.
START_S = 3 * LONG_S


@pytest.fixture
def pool() -> Iterator[Processes]:
    """A pool that is closed in the end."""
    pool = Processes()
    yield pool
    pool.close()


def work(kind: str, payload: Any = None, *, timeout_s: float | None = None, attempt: int = 1) -> Work:
    """Make a task."""
    return Work(7, HANDLERS[kind], json.dumps(payload).encode(), CurrentTask(70, kind, attempt), timeout_s)


def run(pool: Processes, task: Work) -> Work:
    """Run a task to its end."""
    task.end(pool.run(task, max_value=MAX_VALUE))
    return task


def value(task: Work) -> Any:
    """Give what a task has returned."""
    assert isinstance(task.outcome, Success), task.outcome
    return json.loads(bytes(task.outcome.value))


def failure_of(task: Work) -> Failure:
    """Give the failure that a task ended in."""
    assert isinstance(task.outcome, Failure), task.outcome
    return task.outcome


class Running:
    """A task that runs in the pool while the test goes on."""

    def __init__(self, pool: Processes, task: Work) -> None:
        self.task = task
        self._thread = threading.Thread(target=run, args=(pool, task), daemon=True)
        self._thread.start()

    def end(self) -> Work:
        """Wait for its end."""
        self._thread.join(START_S)
        assert not self._thread.is_alive()
        return self.task


def begun(folder: Path) -> list[int]:
    """Wait until a task has begun, and give the processes that it names."""
    return [int(word) for word in in_the_end(_text_of(folder / "begun"), within_s=START_S).split()]


def _text_of(path: Path) -> Callable[[], str]:
    return lambda: path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    """Say whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_task_runs_in_a_process_that_takes_the_next_one_too(pool: Processes) -> None:
    """Its module is imported once; the task knows itself there."""
    first, second = run(pool, work("whoami")), run(pool, work("whoami", attempt=3))
    pid = value(first)[0]

    assert pid != os.getpid()
    assert value(first) == [pid, 70, "whoami", 1]
    assert value(second) == [pid, 70, "whoami", 3]


@pytest.mark.parametrize("payload", [None, 97, "é\u2028\n", [1, {"a": [True]}], "x" * 900_000])
def test_payload_and_result_travel_whole(pool: Processes, payload: Any) -> None:
    """However long they may be."""
    assert value(run(pool, work("echo", payload))) == payload


def test_a_result_that_comes_in_pieces_leaves_nothing_for_the_next_task(pool: Processes) -> None:
    """In the same process, task after task."""
    pids = {value(run(pool, work("whoami")))[0]}
    for size in (500_000, 1, 900_000, 70_000):
        assert value(run(pool, work("echo", "x" * size))) == "x" * size
        pids.add(value(run(pool, work("whoami")))[0])

    assert len(pids) == 1


def test_a_coroutine_runs_in_a_process_too(pool: Processes) -> None:
    """In an event loop of its own."""
    assert value(run(pool, work("await_echo", 3))) == [3, "await_echo"]


def test_a_failure_keeps_its_traceback(pool: Processes) -> None:
    """Its type, its bases and its cause too; the process goes on."""
    failed = failure_of(run(pool, work("fail")))

    assert (failed.type, failed.message, failed.retry) == ("ConnectionResetError", "boom", True)
    assert failed.bases == ("ConnectionError", "OSError")
    assert "KeyError: 'cause'" in failed.traceback
    assert "samples.py" in failed.traceback
    assert value(run(pool, work("echo", 1))) == 1


def test_a_handler_says_how_its_task_goes_on(pool: Processes) -> None:
    """Never again, again after a while, later without blame."""
    rejected, retried = (
        failure_of(run(pool, work("verdict", "reject"))),
        failure_of(run(pool, work("verdict", "retry"))),
    )

    assert (rejected.type, rejected.retry) == ("Reject", False)
    assert (retried.message, retried.retry, retried.after_s) == ("later", True, 90.0)
    assert run(pool, work("verdict", "snooze")).outcome == Returned(600.0)


def test_payload_and_result_are_checked_there(pool: Processes) -> None:
    """By the types that the handler names, and by the length that the server takes."""
    failed = failure_of(run(pool, work("typed", "no list")))
    assert (failed.type, failed.retry) == ("BadPayload", False)

    task = work("echo", "x" * 100)
    task.end(pool.run(task, max_value=50))
    assert "at most 50 bytes" in failure_of(task).message


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (["exit", 3], "the process that ran the task exited with code 3"),
        (["exit", 0], "the process that ran the task exited with code 0"),
        (["crash"], "was killed by SIGSEGV"),
        (
            ["signal", signal.SIGKILL],
            "was killed by SIGKILL (if nobody did that on purpose, the system was out of memory)",
        ),
        (["signal", signal.SIGABRT], "was killed by SIGABRT"),
    ],
)
def test_a_task_that_ends_its_process_has_failed(pool: Processes, how: list[Any], complaint: str) -> None:
    """The client has not: the next task runs in another process."""
    before = value(run(pool, work("whoami")))[0]
    with capture_logs() as events:
        failed = failure_of(run(pool, work("end", how)))

    assert (failed.type, failed.retry) == ("ProcessDied", True)
    assert complaint in failed.message
    assert [event["line"] for event in events if event.get("stream") == "stdout"] == ["last words"]
    assert value(run(pool, work("whoami")))[0] != before


def test_a_crash_says_where(pool: Processes) -> None:
    """The last that the process wrote is kept, as a traceback would be."""
    failed = failure_of(run(pool, work("end", ["crash"])))

    assert "Segmentation fault" in failed.traceback
    assert "samples.py" in failed.traceback


def test_leaving_is_a_failure_like_any_other(pool: Processes) -> None:
    """The process stays."""
    before = value(run(pool, work("whoami")))[0]
    failed = failure_of(run(pool, work("end", ["leave", 3])))

    assert (failed.type, failed.message) == ("SystemExit", "3")
    assert value(run(pool, work("whoami")))[0] == before


@pytest.mark.parametrize("error", [ConnectionResetError("before"), Reject("before")])
def test_what_is_called_before_a_run_can_end_it(pool: Processes, tmp_path: Path, error: Exception) -> None:
    """In the client, and no process begins with the task."""

    def refuse() -> None:
        raise error

    task = work("sleep", str(tmp_path))
    task.handler = replace(task.handler, before=refuse)
    failed = failure_of(run(pool, task))

    assert (failed.type, failed.message) == (type(error).__name__, "before")
    assert failed.retry is not isinstance(error, Reject)
    assert "in refuse" in failed.traceback
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize("kind", ["interrupt", "await_interrupt"])
def test_an_interrupt_is_a_failure_like_any_other(pool: Processes, kind: str) -> None:
    """No Ctrl-C of a user's reaches a process of the pool: the traceback says where it was, and the process stays."""
    before = value(run(pool, work("whoami")))[0]
    failed = failure_of(run(pool, work(kind)))

    assert (failed.type, failed.retry) == ("KeyboardInterrupt", True)
    assert f"in {kind}" in failed.traceback
    assert value(run(pool, work("whoami")))[0] == before


def test_a_task_that_takes_too_much_memory_fails(pool: Processes) -> None:
    """It says so itself if the limit is its own; the client has no part in it."""
    assert failure_of(run(pool, work("hoard", 512))).type == "MemoryError"


def test_a_process_that_dies_between_two_tasks_is_replaced(pool: Processes) -> None:
    """No task is to suffer from it."""
    before = value(run(pool, work("whoami")))[0]
    os.kill(before, signal.SIGKILL)
    # Not by its state: its first thread is a zombie before the last of them has gone.
    in_the_end(lambda: os.waitid(os.P_PID, before, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    assert value(run(pool, work("whoami")))[0] != before


@pytest.mark.parametrize("kind", ["sleep", "await_sleep"])
@pytest.mark.parametrize(
    ("reason", "found"), [("cancelled", ("Cancelled", False)), ("timeout", ("TimeoutError", True))]
)
def test_a_task_that_is_asked_to_stop_ends_and_may_clean_up(
    pool: Processes, tmp_path: Path, kind: str, reason: StopReason, found: tuple[str, bool]
) -> None:
    """In a moment, whatever ran in the process before; its process is replaced."""
    run(pool, work("await_echo"))
    running = Running(pool, work(kind, str(tmp_path)))
    (pid,) = begun(tmp_path)
    began_s = time.monotonic()
    running.task.ask_to_stop(reason)
    failed = failure_of(running.end())

    assert time.monotonic() - began_s < LONG_S
    assert (failed.type, failed.retry) == found
    assert "samples.py" in failed.traceback
    assert (tmp_path / "cleaned").exists()
    assert not is_alive(pid)
    assert value(run(pool, work("whoami")))[0] != pid


def test_a_task_is_ended_at_its_timeout(pool: Processes, tmp_path: Path) -> None:
    """Counted from when it begins: that a process has to start first is no fault of it."""
    running = Running(pool, work("sleep", str(tmp_path), timeout_s=0.3))
    (pid,) = begun(tmp_path)
    failed = failure_of(running.end())

    assert (failed.type, failed.retry) == ("TimeoutError", True)
    assert "timeout of 0.3 s" in failed.message
    assert not is_alive(pid)
    assert value(run(pool, work("echo", 1, timeout_s=START_S))) == 1


def test_whoever_does_not_listen_is_killed_with_all_that_he_started(pool: Processes, tmp_path: Path) -> None:
    """After a short grace."""
    running = Running(pool, work("stubborn", str(tmp_path)))
    pids = begun(tmp_path)
    assert len(pids) == 2
    began_s = time.monotonic()
    running.task.ask_to_stop("cancelled")
    failed = failure_of(running.end())

    assert (failed.type, failed.retry) == ("Cancelled", False)
    assert time.monotonic() - began_s < START_S
    in_the_end(lambda: not any(map(is_alive, pids)))


def test_what_a_task_prints_and_logs_comes_to_the_log_of_the_client(pool: Processes) -> None:
    """With its id and kind, whatever it was written with; in order for each of them."""
    with capture_logs() as events:
        assert value(run(pool, work("talk"))) == "said"

    assert all((event["task"], event["kind"]) == (70, "talk") for event in events)
    printed = [(event["stream"], event["line"]) for event in events if event["event"] == "task.output"]
    assert [line for stream, line in printed if stream == "stdout"] == ["printed", "from C", "no end of line"]
    assert [line for stream, line in printed if stream == "stderr"] == ["complained"]
    structured, plain, chatter, warned, trouble = (event for event in events if event["event"] != "task.output")
    assert (structured["event"], structured["log_level"], structured["width"]) == ("structured", "info", 3)
    assert "'a'" in structured["odd"]
    assert (plain["event"], plain["log_level"], plain["logger"]) == ("plain 7", "warning", "samples.own")
    assert (chatter["event"], chatter["log_level"]) == ("chatter", "debug")
    assert (warned["logger"], "old" in warned["event"]) == ("py.warnings", True)
    assert (trouble["event"], trouble["log_level"]) == ("trouble", "error")
    assert "ValueError: logged" in trouble["exception"]


def test_progress_comes_to_the_client(pool: Processes) -> None:
    """The last word in any case."""
    task = run(pool, work("progress", 1_000))

    assert value(task) is None
    assert task.current.latest == (1.0, "step 1000")


@pytest.mark.parametrize("kind", ["count", "await_count"])
def test_a_task_in_a_used_process_has_a_context_of_its_own(pool: Processes, kind: str) -> None:
    """The context variables of the one before are not there."""
    counts = [value(run(pool, work(kind))) for _ in range(2)]

    assert counts[0][0] == counts[1][0]
    assert [count for _, count in counts] == [1, 1]


@pytest.mark.parametrize(
    ("source", "retry", "complaint"),
    [
        ("tests.client.pool.samples:NOTHING", False, "wanted the handler of Other at"),
        ("tests.client.pool.samples:SOURCE", False, "found str without it"),
        ("tests.client.pool.samples:HANDLERS", False, "found mappingproxy without it"),
        ("__main__:task", False, "which no other process can import"),
        ("tests.client.pool.nowhere:HANDLERS", True, "No module named"),
    ],
)
def test_a_handler_that_cannot_be_imported_fails_its_task(
    pool: Processes, source: str, *, retry: bool, complaint: str
) -> None:
    """With the words that say where it was looked for."""
    task = Work(7, Handler("Other", print, executor="process", source=source), b"null", CurrentTask(70, "Other", 1))
    failed = failure_of(run(pool, task))

    assert complaint in failed.message
    assert failed.retry == retry


def test_a_process_that_cannot_start_fails_its_task(
    pool: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As one that cannot be found."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))

    assert failure_of(run(pool, work("echo"))).type == "FileNotFoundError"


def test_the_end_of_the_pool_kills_what_runs(pool: Processes, tmp_path: Path) -> None:
    """And what waits for a next task."""
    idle = value(run(pool, work("whoami")))[0]
    busy = Running(pool, work("echo"))
    busy.end()
    running = Running(pool, work("stubborn", str(tmp_path)))
    pids = begun(tmp_path)
    pool.close()

    running.end()
    in_the_end(lambda: not any(map(is_alive, [idle, *pids])))


_CLIENT = (
    "import os, sys; from tests.client.pool.test_processes import Processes, run, work;"
    "os.environ['PYTHONPATH'] = sys.argv[2]; run(Processes(), work(sys.argv[1], sys.argv[2]))"
)


@pytest.mark.parametrize("kind", ["sleep", "deaf", "stubborn"])
def test_a_process_ends_with_its_client(tmp_path: Path, kind: str) -> None:
    """However that one ends, and though the task is deep in C code and lets no other thread run, or heeds no signal."""
    with subprocess.Popen([sys.executable, "-c", _CLIENT, kind, str(tmp_path)]) as client:
        pid, *others = begun(tmp_path)
        client.kill()

    in_the_end(lambda: not is_alive(pid))
    for other in others:
        os.kill(other, signal.SIGKILL)


def test_a_process_that_still_imports_ends_with_its_client_too(tmp_path: Path) -> None:
    """A client may be killed before the process has got as far as to its task."""
    note = f"pathlib.Path({str(tmp_path / 'begun')!r}).write_text(str(os.getpid()))"
    (tmp_path / "msgspec.py").write_text(f"import os, pathlib, time; {note}; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", _CLIENT, "sleep", str(tmp_path)]) as client:
        (pid,) = begun(tmp_path)
        client.kill()

    in_the_end(lambda: not is_alive(pid))


def test_a_process_ends_when_nobody_is_at_the_other_end(tmp_path: Path) -> None:
    """Where the system does not see to it: in the middle of its task."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = _started(theirs.fileno())
    order = Order(70, "sleep", 1, SOURCE, msgspec.Raw(json.dumps(str(tmp_path)).encode()), MAX_VALUE)
    with ours:
        Channel(ours, Answer).say(Setup(sys.path, 0, {}), order)
        begun(tmp_path)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()

    assert process.wait(START_S) == 1
    assert not (tmp_path / "cleaned").exists()


def test_slots_bound_processes_too(tmp_path: Path) -> None:
    """A slot is taken as long as the process runs; what stops at the end goes back."""
    slots = threads(1, lambda: None)
    first, second = work("sleep", str(tmp_path)), work("echo", 2)
    slots.put(first)
    slots.put(second)
    begun(tmp_path)
    assert slots.pick({second.assignment + 1}) == []
    assert not second.begun_s
    slots.stop(first, "shutdown")
    harvested(slots, 2)
    slots.close()

    assert (first.outcome, value(second)) == (Returned(), 2)
