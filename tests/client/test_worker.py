"""The worker, against a server that a test speaks for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group, fail_after
from structlog.testing import capture_logs
from structlog.typing import EventDict

from dtm.client.current import CurrentTask, current
from dtm.client.handlers import Handler, registry
from dtm.client.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from dtm.client.slots import threads
from dtm.client.work import Work
from dtm.client.worker import Worker, WorkerSettings
from dtm.net.stream import connect_tcp
from tests.client.gates import Gate
from tests.client.pool.samples import HANDLERS
from tests.client.pool.test_processes import is_alive
from tests.client.scripted import Scripted, admission, free_port, listening, task, verdict, welcome
from tests.waiting import LONG_S, eventually, in_the_end
from tests.wire import Line, Wire

# Each worker its own chance, the same in every run.
_SEEDS = count(1)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """A server that listens."""
    async with listening() as server:
        yield server


class Working:
    """A running worker."""

    def __init__(self, worker: Worker, events: list[EventDict]) -> None:
        self.worker = worker
        self.events = events
        self.stop = Event()
        self.now = Event()
        self.left_over: int | None = None

    async def run(self) -> None:
        """Work."""
        self.left_over = await self.worker.run(self.stop, self.now)

    async def ended(self) -> int:
        """Wait for its end, and give how many tasks it left over."""
        await eventually(lambda: self.left_over is not None)
        assert self.left_over is not None
        return self.left_over

    def logged(self, event: str) -> list[EventDict]:
        """Give what was logged under this name."""
        return [entry for entry in self.events if entry["event"] == event]


@asynccontextmanager
async def working(
    port: int,
    gate: Gate | None = None,
    *,
    handler: Handler | None = None,
    concurrency: int = 1,
    prefetch: Prefetch | None = None,
    shutdown_timeout_s: float = LONG_S,
) -> AsyncIterator[Working]:
    """Let a worker run as long as the context lasts."""
    handlers = registry(
        Handler("Echo", lambda payload: payload), *([gate.handler] if gate else []), *([handler] if handler else [])
    )
    settings = WorkerSettings(
        host=Scripted.host, port=port, name="w", concurrency=concurrency, shutdown_timeout_s=shutdown_timeout_s
    )
    worker = Worker(
        settings,
        handlers,
        prefetch or FixedPrefetch(3),
        connect=connect_tcp,
        slots=threads,
        chance=random.Random(next(_SEEDS)),
    )
    with capture_logs() as events:
        found = Working(worker, events)
        async with create_task_group() as group:
            group.start_soon(found.run)
            yield found
            group.cancel_scope.cancel()


@asynccontextmanager
async def served(server: Scripted, **fields: Any) -> AsyncIterator[Wire]:
    """Let the worker in, and take what it says first."""
    async with server.accept() as wire:
        await welcome(wire, **fields)
        await wire.expect("Capacity")
        yield wire


def result(assignment: int, value: Any = None) -> Line:
    """Say what a `Result` must have."""
    return {"task_id": 10 * assignment, "assignment": assignment, "ok": True, "value": value}


# At work.


async def test_it_registers_and_runs_what_comes(server: Scripted) -> None:
    """With its name, its kinds, and how many tasks it wants to hold."""
    async with working(server.port, concurrency=2), server.accept() as wire:
        registration = await welcome(wire)
        instance = registration.pop("instance")
        assert registration == {"type": "Register", "name": "w", "kinds": ["Echo"], "capacity": 5, "resume": []}
        assert len(instance) == 32
        await wire.expect("Capacity", capacity=5)
        for assignment in (1, 2):
            await wire.say(task(assignment, payload=[assignment]))
            await wire.expect("Result", **result(assignment, [assignment]))


async def test_it_pings_while_every_slot_computes(server: Scripted, gate: Gate) -> None:
    """In the server's rhythm; otherwise it would count as dead."""
    async with working(server.port, gate), served(server, interval_s=0.02) as wire:
        await wire.say(task(1, "Gate"))
        await eventually(lambda: gate.waiting)

        for _ in range(5):
            await wire.expect("PingRequest")
        gate.open()
        while (message := await wire.hear())["type"] == "PingRequest":
            pass
        assert message["type"] == "Result"


async def test_pure_python_does_not_keep_it_from_pinging(server: Scripted) -> None:
    """The interpreter takes turns; only C code that keeps its lock could."""
    stop = False

    def spin(_: object) -> None:
        while not stop:
            pass

    settings = WorkerSettings(host=server.host, port=server.port, name="w", concurrency=2, shutdown_timeout_s=1)
    worker = Worker(
        settings,
        registry(Handler("Spin", spin)),
        FixedPrefetch(0),
        connect=connect_tcp,
        slots=threads,
        chance=random.Random(1),
    )
    try:
        async with create_task_group() as group:
            group.start_soon(worker.run, Event(), Event())
            async with served(server, interval_s=0.05) as wire:
                await wire.say(task(1, "Spin"), task(2, "Spin"))
                with fail_after(5):
                    for _ in range(5):
                        await wire.expect("PingRequest")
            stop = True
            group.cancel_scope.cancel()
    finally:
        stop = True


async def test_what_waits_behind_a_long_task_goes_back(server: Scripted, gate: Gate) -> None:
    """After a while; another worker may be idle."""
    async with working(server.port, gate, prefetch=AutoPrefetch()), served(server) as wire:
        await wire.say(task(1, "Gate"), task(2))

        await wire.expect("Release", task_id=20, assignment=2)


async def test_a_kind_it_does_not_run_goes_back(server: Scripted) -> None:
    """At once."""
    async with working(server.port), served(server) as wire:
        await wire.say(task(1, "Other"))

        await wire.expect("Release", task_id=10, assignment=1)


async def test_what_concerns_it_little_does_not_disturb_it(server: Scripted) -> None:
    """A complaint is logged; a message for later versions and answers to nothing are passed over."""
    async with working(server.port) as found, served(server) as wire:
        await wire.say(
            {"type": "Error", "code": "refused", "message": "no"},
            {"type": "Cancel", "task_id": 10, "assignment": 1},
            {"type": "TaskFinished", "task_id": 10, "state": "completed"},
            verdict({"task_id": 10, "assignment": 1}, "stale"),
            task(2),
        )

        await wire.expect("Result", **result(2))
        assert [event["reason"] for event in found.logged("server.error")] == ["no"]


# Connections that break.


async def test_a_result_is_said_again_until_it_is_acknowledged(server: Scripted) -> None:
    """On each new connection, after it has been named and let in; never after its acknowledgement."""
    async with working(server.port):
        async with served(server) as wire:
            await wire.say(task(1, payload="x"))
            await wire.expect("Result", **result(1, "x"))
        async with server.accept() as wire:
            assert (await welcome(wire))["resume"] == [1]
            await wire.expect("Capacity")
            await wire.expect("Result", **result(1, "x"))
        async with server.accept() as wire:
            assert (await welcome(wire))["resume"] == [1]
            await wire.expect("Capacity")
            said = await wire.expect("Result", **result(1, "x"))
            await wire.say(verdict(said), task(2))
            await wire.expect("Result", **result(2))
        async with server.accept() as wire:
            assert (await welcome(wire))["resume"] == [2]


async def test_it_is_the_same_process_on_each_connection(server: Scripted) -> None:
    """And another one, of the same name, is not."""
    instances = []
    for _ in range(2):
        async with working(server.port):
            for _ in range(2):
                async with server.accept() as wire:
                    instances.append((await welcome(wire))["instance"])

    first, again, other, other_again = instances
    assert (first, other) == (again, other_again)
    assert first != other


async def test_what_it_holds_outlives_the_connection(server: Scripted, gate: Gate) -> None:
    """It is named, goes on running, and is reported on the new connection."""
    async with working(server.port, gate):
        async with served(server) as wire:
            await wire.say(task(1, "Gate"), task(2))
            await eventually(lambda: gate.waiting)
        async with server.accept() as wire:
            assert sorted((await welcome(wire))["resume"]) == [1, 2]
            await wire.expect("Capacity")
            gate.open()

            for assignment in (1, 2):
                await wire.expect("Result", **result(assignment))


async def test_nothing_is_said_before_the_server_knows_who_speaks(server: Scripted, gate: Gate) -> None:
    """What ends meanwhile is said after the welcome."""
    async with working(server.port, gate) as found:
        async with served(server) as wire:
            await wire.say(task(1, "Gate"))
            await eventually(lambda: gate.waiting)
        async with server.accept() as wire:
            registration = await wire.expect("Register")
            gate.open()
            await eventually(lambda: found.worker._workload.unheard)
            await wire.say(admission(registration))
            await wire.expect("Capacity")

            await wire.expect("Result", **result(1))


async def test_a_task_given_back_into_a_broken_connection_is_given_back_again(server: Scripted, gate: Gate) -> None:
    """Else the server would wait for ever for a task that is not here."""
    async with working(server.port, gate, prefetch=AutoPrefetch()) as found:
        async with served(server) as wire:
            await wire.say(task(1, "Gate"), task(2))
            await eventually(lambda: gate.waiting)
        async with server.accept() as wire:
            registration = await wire.expect("Register")
            assert sorted(registration["resume"]) == [1, 2]
            # The server takes its time, and the worker gives back what has waited for too long.
            await eventually(lambda: found.worker._workload.unheard)
            await wire.say(admission(registration))
            await wire.expect("Capacity")

            said = await wire.expect("Release", assignment=2)
            await wire.say(verdict(said, state="pending"))


async def test_what_is_lost_is_not_begun(server: Scripted, gate: Gate) -> None:
    """Somebody else runs it; the result of what runs already is said, and may be stale."""
    async with working(server.port, gate):
        async with served(server) as wire:
            await wire.say(task(1, "Gate"), task(2))
            await eventually(lambda: gate.waiting)
        async with server.accept() as wire:
            await welcome(wire, resumed=[], lost=[1, 2])
            await wire.expect("Capacity")
            gate.open()
            await wire.say(verdict(await wire.expect("Result", **result(1)), "stale", "assigned"), task(3))

            await wire.expect("Result", **result(3))


async def test_a_store_that_is_not_the_one_it_was_is_told(server: Scripted) -> None:
    """Its epoch only goes up: a lower one, or another store, was put in place of what the worker knew."""
    async with working(server.port) as found:
        for store, epoch, told in (("a", 3, 0), ("a", 3, 0), ("a", 5, 0), ("a", 4, 1), ("b", 9, 2)):
            async with served(server, store=store, epoch=epoch):
                assert len(found.logged("store.changed")) == told


async def test_a_silent_server_is_left(server: Scripted) -> None:
    """It does not answer pings: the connection may be dead although it looks open."""
    async with working(server.port) as found:
        async with served(server, interval_s=0.02, timeout_s=0.1) as wire:
            await eventually(lambda: found.logged("disconnected"))
            heard = await wire.hear_all()
        assert {message["type"] for message in heard} == {"PingRequest"}
        assert "silent for 0.1 s" in found.logged("disconnected")[0]["reason"]
        async with served(server):
            pass


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n", b'{"type":"Task"}\n'])
async def test_nonsense_ends_the_connection_not_the_worker(server: Scripted, nonsense: bytes) -> None:
    """It tries again, in case the real server comes back."""
    async with working(server.port) as found:
        async with server.accept() as wire:
            await wire.expect("Register")
            await wire.say_bytes(nonsense)
            await wire.hear_all()
        async with served(server) as wire:
            await wire.say(task(1))
            await wire.expect("Result", **result(1))

    assert "no message" in found.logged("disconnected")[0]["reason"]


async def test_a_refused_registration_is_tried_again(server: Scripted) -> None:
    """A server that shuts down is followed by another."""
    async with working(server.port) as found:
        async with server.accept() as wire:
            await wire.expect("Register")
            await wire.say({"type": "Error", "code": "shutting-down", "message": "come back later"})
            assert await wire.hear_all() == []
        async with served(server):
            pass

    assert "come back later (shutting-down)" in found.logged("disconnected")[0]["reason"]


async def test_it_waits_longer_and_longer_until_it_is_let_in(server: Scripted) -> None:
    """Doubling, with chance in it; the count begins anew after each welcome."""
    async with working(server.port) as found:
        for _ in range(4):
            async with server.accept() as wire:
                await wire.expect("Register")
        async with served(server):
            pass
        await eventually(lambda: len(found.logged("disconnected")) == 5)

    pauses = [event["retry_in_s"] for event in found.logged("disconnected")]
    ceilings = [0.1, 0.2, 0.4, 0.8, 0.1]
    assert all(ceiling / 2 <= pause <= ceiling for pause, ceiling in zip(pauses, ceilings, strict=True)), pauses


async def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    """It may be started in any order."""
    port = free_port()
    async with working(port) as found:
        await eventually(lambda: found.logged("disconnected"))
        async with listening(port) as server, served(server) as wire:
            await wire.say(task(1))
            await wire.expect("Result", **result(1))

    assert "cannot reach" in found.logged("disconnected")[0]["reason"]


# The end.


async def test_a_server_that_shuts_down_gets_back_what_has_not_begun(server: Scripted, gate: Gate) -> None:
    """What runs may finish."""
    async with working(server.port, gate), served(server) as wire:
        await wire.say(task(1, "Gate"), task(2), task(3))
        await eventually(lambda: gate.waiting)
        await wire.say({"type": "ShuttingDown"})
        await wire.expect("Release", assignment=2)
        await wire.expect("Release", assignment=3)
        gate.open()

        await wire.expect("Result", **result(1))


async def test_told_to_stop_it_finishes_what_runs_and_gives_back_the_rest(server: Scripted, gate: Gate) -> None:
    """No more tasks, releases, the last results, and a goodbye once those are acknowledged."""
    async with working(server.port, gate) as found, served(server) as wire:
        await wire.say(task(1, "Gate"), task(2))
        await eventually(lambda: gate.waiting)
        found.stop.set()
        await wire.expect("Capacity", capacity=0)
        await wire.expect("Release", assignment=2)
        await wire.say(task(3))
        await wire.expect("Release", assignment=3)
        gate.open()
        said = await wire.expect("Result", **result(1))
        assert found.left_over is None
        await wire.say(verdict(said))

        await wire.expect("Goodbye")
        assert await found.ended() == 0
        assert await wire.hear_all() == []


async def test_told_twice_it_leaves_at_once(server: Scripted, gate: Gate) -> None:
    """What runs is left over, and goes to another worker without blame."""
    async with working(server.port, gate) as found, served(server) as wire:
        await wire.say(task(1, "Gate"))
        await eventually(lambda: gate.waiting)
        found.stop.set()
        found.now.set()
        await wire.expect("Capacity", capacity=0)
        await wire.expect("Goodbye")

        assert await found.ended() == 1
    gate.open()


async def test_it_does_not_wait_for_ever(server: Scripted, gate: Gate) -> None:
    """Only for its shutdown timeout."""
    async with working(server.port, gate, shutdown_timeout_s=0.2) as found, served(server) as wire:
        await wire.say(task(1, "Gate"))
        await eventually(lambda: gate.waiting)
        asked_s = time.monotonic()
        found.stop.set()

        assert await found.ended() == 1
        assert 0.2 <= time.monotonic() - asked_s < 2


class Overstrained(FixedPrefetch):
    """A rule with a bug."""

    def ran(self, tasks: int, busy_s: float) -> None:
        """Fail."""
        raise ZeroDivisionError


async def test_a_bug_in_it_ends_it(server: Scripted) -> None:
    """A worker that hears the server and hands in nothing would keep its tasks for ever."""

    async def work() -> None:
        async with working(server.port, prefetch=Overstrained(3)), served(server) as wire:
            await wire.say(task(1), task(2))
            await anyio.sleep(LONG_S)

    with pytest.raises(ExceptionGroup) as ended:
        await work()
    assert ended.group_contains(ZeroDivisionError)


async def test_without_a_server_it_stops_at_once() -> None:
    """There is nobody to say goodbye to."""
    async with working(free_port()) as found:
        await eventually(lambda: found.logged("disconnected"))
        found.stop.set()
        with fail_after(1):
            assert await found.ended() == 0


def test_a_task_that_ends_after_its_worker_does_no_harm(gate: Gate) -> None:
    """Nobody waits for it any more; its thread has nobody to tell, and does not fail of that."""

    async def leave() -> Worker:
        async with listening() as server, working(server.port, gate) as found, served(server) as wire:
            await wire.say(task(1, "Gate"))
            await eventually(lambda: gate.waiting)
            found.stop.set()
            found.now.set()
            await found.ended()
            return found.worker

    workload = anyio.run(leave)._workload
    gate.open()
    in_the_end(lambda: workload._slots._done)
    workload._slots.harvest()
    workload._slots.put(Work(2, Handler("Echo", lambda payload: payload), b"null", CurrentTask(20, "Echo", 1)))

    in_the_end(lambda: workload._slots._done)


# Coroutines, and what is to stop.


def _waiting(cleaned: list[str]) -> Handler:
    async def wait(_: object) -> None:
        cleaned.append("begun")
        try:
            await anyio.sleep(LONG_S)
        finally:
            cleaned.append("cleaned")

    return Handler("Wait", wait)


async def test_a_cancel_reaches_a_running_coroutine_at_once(server: Scripted) -> None:
    """Within a tenth of a second on a machine that is not busy; the bound here is for one that is."""
    cleaned: list[str] = []
    async with working(server.port, handler=_waiting(cleaned)) as found, served(server) as wire:
        await wire.say(task(1, "Wait"))
        await eventually(lambda: cleaned)
        began_s = time.monotonic()
        await wire.say({"type": "Cancel", "task_id": 10, "assignment": 1, "reason": "cancelled"})
        answer = await wire.expect("Result", task_id=10, assignment=1, ok=False, retry=False)
        took_s = time.monotonic() - began_s

        assert answer["error"]["type"] == "Cancelled"
        assert cleaned == ["begun", "cleaned"]
        assert took_s < 2.0
        await wire.say(verdict(answer, state="cancelled"), task(2, "Echo"))
        await wire.expect("Result", **result(2))
    assert [event["task"] for event in found.logged("task.stopping")] == [10]


async def test_many_cancels_are_heard_together(server: Scripted, gate: Gate) -> None:
    """What has not begun is looked through once, and given up at once."""
    async with working(server.port, gate, prefetch=FixedPrefetch(1_000)), served(server) as wire:
        await wire.say(*(task(number, "Gate") for number in range(1, 501)))
        await eventually(lambda: gate.waiting)
        await wire.say(*({"type": "Cancel", "task_id": 10 * number, "assignment": number} for number in range(2, 501)))
        for number in range(2, 501):
            await wire.expect("Result", task_id=10 * number, assignment=number, ok=False)
        gate.open()
        await wire.expect("Result", **result(1))


async def test_a_coroutine_may_finish_when_the_worker_stops(server: Scripted) -> None:
    """As a thread may."""
    let_go = threading.Event()
    begun = threading.Event()

    async def wait(_: object) -> str:
        begun.set()
        await eventually(let_go.is_set)
        return "finished"

    async with working(server.port, handler=Handler("Wait", wait)) as found, served(server) as wire:
        await wire.say(task(1, "Wait"))
        await eventually(begun.is_set)
        found.stop.set()
        await wire.expect("Capacity", capacity=0)
        let_go.set()
        done = await wire.expect("Result", **result(1, "finished"))
        await wire.say(verdict(done))
        await wire.expect("Goodbye")
        assert await found.ended() == 0


async def test_a_coroutine_that_takes_too_long_goes_back_when_the_worker_stops(server: Scripted) -> None:
    """Cancelled, so that it can clean up, and without blame; then the goodbye."""
    cleaned: list[str] = []
    found_handler = _waiting(cleaned)
    async with (
        working(server.port, handler=found_handler, shutdown_timeout_s=0.05) as found,
        served(server) as wire,
    ):
        await wire.say(task(1, "Wait"))
        await eventually(lambda: cleaned)
        found.stop.set()
        await wire.expect("Capacity", capacity=0)
        assert (await wire.expect("Release", task_id=10, assignment=1)).get("delay") is None
        await wire.expect("Goodbye")

        assert cleaned == ["begun", "cleaned"]
        assert await found.ended() == 0


async def test_progress_reaches_the_server(server: Scripted) -> None:
    """While the task runs, and the last of it before the result."""
    go_on = threading.Event()

    async def step(_: object) -> None:
        current().progress(0.25, "a quarter")
        await eventually(go_on.is_set)
        current().progress(1)

    async with working(server.port, handler=Handler("Step", step)), served(server) as wire:
        await wire.say(task(1, "Step"))
        await wire.expect("Progress", task_id=10, assignment=1, fraction=0.25, note="a quarter")
        go_on.set()
        await wire.expect("Progress", task_id=10, assignment=1, fraction=1.0, note="")
        await wire.expect("Result", **result(1))


# Processes.


async def test_a_process_is_cancelled_within_a_moment(server: Scripted, tmp_path: Path) -> None:
    """And the worker runs the next task in another one."""
    async with working(server.port, handler=HANDLERS["sleep"]) as found, served(server) as wire:
        await wire.say(task(1, "sleep", str(tmp_path)))
        await eventually((tmp_path / "begun").exists, within_s=3 * LONG_S)
        began_s = time.monotonic()
        await wire.say({"type": "Cancel", "task_id": 10, "assignment": 1, "reason": "cancelled"})
        answer = await wire.expect("Result", task_id=10, assignment=1, ok=False, retry=False)

        assert time.monotonic() - began_s < 3.0
        assert answer["error"]["type"] == "Cancelled"
        assert (tmp_path / "cleaned").exists()
        await wire.say(verdict(answer, state="cancelled"), task(2, "Echo"))
        await wire.expect("Result", **result(2))
    assert [event["task"] for event in found.logged("task.stopping")] == [10]


async def test_a_crash_fails_the_task_and_not_the_worker(server: Scripted) -> None:
    """Whatever the process died of is told to the server."""
    async with working(server.port, handler=HANDLERS["end"]), served(server) as wire:
        await wire.say(task(1, "end", ["crash"]), task(2, "Echo"))
        answer = await wire.expect("Result", task_id=10, assignment=1, ok=False, retry=True)
        await wire.expect("Result", **result(2))

        assert answer["error"]["type"] == "ProcessDied"
        assert "SIGSEGV" in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["sleep", "stubborn"])
async def test_a_process_that_takes_too_long_goes_back_when_the_worker_stops(
    server: Scripted, tmp_path: Path, kind: str
) -> None:
    """It has a moment to clean up; none outlives its worker."""
    async with (
        working(server.port, handler=HANDLERS[kind], shutdown_timeout_s=0.05) as found,
        served(server) as wire,
    ):
        await wire.say(task(1, kind, str(tmp_path)))
        await eventually((tmp_path / "begun").exists, within_s=3 * LONG_S)
        found.stop.set()
        await wire.expect("Capacity", capacity=0)
        await wire.expect("Release", task_id=10, assignment=1)
        await wire.expect("Goodbye")

        assert await found.ended() == 0
        assert (tmp_path / "cleaned").exists() == (kind == "sleep")


async def test_a_second_wish_to_stop_waits_for_no_process(server: Scripted, tmp_path: Path) -> None:
    """It is killed at once, and its task left over."""
    async with working(server.port, handler=HANDLERS["stubborn"]) as found, served(server) as wire:
        await wire.say(task(1, "stubborn", str(tmp_path)))
        begun = tmp_path / "begun"
        await eventually(lambda: begun.exists() and begun.read_text(), within_s=3 * LONG_S)
        pid = int(begun.read_text().split()[0])
        found.stop.set()
        found.now.set()
        await found.ended()

    await eventually(lambda: not is_alive(pid))
