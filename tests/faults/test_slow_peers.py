"""Peers that do not read, that speak a byte at a time, and that submit faster than any disk can take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import NamedTuple

import pytest

from tests.acceptance.cluster import Cluster, Process, end
from tests.faults import oracle, serverlog
from tests.faults.crowd import MEBIBYTE, PING, Visitor, crowd, line, processor_time, resident
from tests.faults.ledger import Ledger
from tests.faults.test_busy_store import locked
from tests.server.live import registration, submission, success
from tests.waiting import in_the_end
from tests.wire import Line

BIG_PING = line({"type": "PingRequest", "timestamp": "x" * 60_000})
SUBMISSIONS = 200
TRIES = 4
NOISE_S = 0.05


@pytest.mark.parametrize("deadline_s", [2.0, pytest.param(10.0, marks=pytest.mark.soak)], ids=["scaled", "real"])
def test_clients_that_never_read_are_cut_and_hinder_nobody(
    cluster: Cluster, ledger: Ledger, figure: Callable[[str], None], deadline_s: float
) -> None:
    """A hundred with tiny buffers ask for much: once the server has done what they take, a well-behaved producer's p99
    is below twice its usual (on a busy machine that is noise: the best of a few tries counts), and they are cut at the
    send deadline. Memory is bounded, and given back."""
    server = cluster.start_server("--send-deadline", f"{deadline_s}s", *serverlog.JSON)
    with crowd(cluster.address, 1) as (producer,):
        before = resident(server.pid)
        tries: list[Try] = []
        usual_s = 0.0
        for number in range(TRIES):
            usual_s = _p99(producer, ledger, f"usual-{number}")
            tries.append(_suffer(cluster, server, producer, ledger, number))
            usual_s = max(usual_s, _p99(producer, ledger, f"again-{number}"))
            if number and tries[-1].p99_s < 2 * usual_s:
                break
    last, most = tries[-1], max(each.memory for each in tries) - before
    figure(
        f"100 that never read: p99 {last.p99_s * 1000:.1f} ms instead of {usual_s * 1000:.1f}, "
        f"{most / MEBIBYTE:.0f} MiB more, all cut after {last.took_s:.1f} s"
    )
    assert last.p99_s < max(2 * usual_s, usual_s + NOISE_S)
    assert all(each.took_s > 0.9 * deadline_s for each in tries)
    assert all("not taken within" in event["reason"] for event in _cut(cluster))
    # For each twice the mebibyte from which on it is not served, and what the event loop has read of it at once, which
    # can be 8 MiB and is mostly 2. The next hundred take no more: what the last ones had is given back.
    assert most < 100 * 8 * MEBIBYTE
    assert tries[-1].memory < 1.5 * tries[0].memory
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


class Try(NamedTuple):
    """What a hundred deaf clients did to the server and to another client."""

    p99_s: float
    memory: int
    took_s: float


def _suffer(cluster: Cluster, server: Process, producer: Visitor, ledger: Ledger, number: int) -> Try:
    gone = len(_cut(cluster))
    with crowd(cluster.address, 100, receive_buffer=1) as deaf:
        began_s = time.monotonic()
        for visitor in deaf:
            _ask_for_much(visitor)
        in_the_end(lambda: _is_at_rest(server), within_s=60)
        p99_s = _p99(producer, ledger, f"during-{number}")
        memory = resident(server.pid)
        in_the_end(lambda: len(_cut(cluster)) == gone + 100, within_s=60)
        return Try(p99_s, max(memory, resident(server.pid)), time.monotonic() - began_s)


@pytest.mark.parametrize(
    ("deadline_s", "every_s"), [(2.0, 0.1), pytest.param(30.0, 1.0, marks=pytest.mark.soak)], ids=["scaled", "real"]
)
def test_five_hundred_that_dribble_are_cut_at_a_total_deadline(
    cluster: Cluster, ledger: Ledger, deadline_s: float, every_s: float
) -> None:
    """Half of them never finish their first message, half finish one and never the next; workers notice nothing."""
    deadlines = ("--first-message-deadline", f"{deadline_s}s", "--line-deadline", f"{deadline_s}s")
    # The worker here does not ping while it waits for the farewells.
    others = ("--max-unauthenticated", "1000", "--heartbeat-timeout", "5m")
    server = cluster.start_server(*deadlines, *others, *serverlog.JSON)
    with crowd(cluster.address, 2) as (worker, producer), crowd(cluster.address, 500) as dribblers:
        assert worker.ask(registration("A", capacity=10)) is not None
        for dribbler in dribblers:
            dribbler.socket.settimeout(deadline_s + 30)
        for dribbler in dribblers[250:]:
            assert dribbler.ask(PING) is not None
        began_s = time.monotonic()
        with _dribbling(dribblers, every_s):
            done = 0
            while time.monotonic() < began_s + 0.5 * deadline_s:
                _work_once(worker, producer, ledger, done)
                done += 1
            assert serverlog.events(cluster.folder, "client.died") == []
            farewells = [dribbler.hear() for dribbler in dribblers]
            took_s = time.monotonic() - began_s
        _work_once(worker, producer, ledger, done)

    assert [answer and answer["code"] for answer in farewells] == ["too-slow"] * 500
    assert {answer["message"].partition(" within")[0] for answer in farewells if answer} == {
        "wanted a first message",
        "wanted the end of a line",
    }
    # Connecting so many took a while, which counts for the first; and the machine may be busy.
    assert 0.5 * deadline_s < took_s < deadline_s + 10
    assert done > 5
    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.soak)])
def test_a_producer_faster_than_the_disk_is_slowed_and_not_stored_in_memory(
    cluster: Cluster, ledger: Ledger, figure: Callable[[str], None], count: int
) -> None:
    """It submits large tasks without waiting for answers, and for a while the disk takes nothing at all."""
    server = cluster.start_server("--busy-timeout", "1m", *serverlog.JSON)
    with crowd(cluster.address, 4) as producers:
        before = most = resident(server.pid)
        tasks = [{"kind": "A", "payload": f"{number}-" + "x" * 500_000, "key": f"k{number}"} for number in range(count)]
        ledger.intend(tasks)
        flood = Flood(producers, tasks)
        with ExitStack() as stack:
            # Locked before the first byte: a lock taken in the midst of the flood comes when much is on disk already.
            with locked(cluster):
                stack.enter_context(flood.running())
                give_up_s = time.monotonic() + 3
                while time.monotonic() < give_up_s:
                    most = max(most, resident(server.pid))
                    time.sleep(0.01)
                stuck_at = flood.sent
            while not flood.is_over:
                most = max(most, resident(server.pid))
                time.sleep(0.01)
    for ref, task in enumerate(tasks):
        ledger.acknowledge([task], flood.answers[ref]["ids"])
    figure(
        f"{count} × 500 kB submitted at once: {(most - before) / MEBIBYTE:.0f} MiB more memory; "
        f"{stuck_at / MEBIBYTE:.0f} MB had been taken while the disk stood still"
    )
    # Two batches of 16 MiB, each as text, as the statement's JSON and as pages; and the readers' pieces.
    assert most - before < 350 * MEBIBYTE
    assert stuck_at < 60 * MEBIBYTE
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


class Flood:
    """Producers that send all they have, and only then read; each reads beside its writing, so that none is deaf."""

    def __init__(self, producers: list[Visitor], tasks: list[Line]) -> None:
        self._producers = producers
        self._messages = [line(submission(task, ref=ref)) for ref, task in enumerate(tasks)]
        self.sent = 0
        self.answers: dict[int, Line] = {}
        self._threads = [Thread(target=self._say, args=(number,)) for number in range(len(producers))]
        self._threads += [Thread(target=self._hear, args=(number,)) for number in range(len(producers))]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send and hear beside the test, to the end."""
        for visitor in self._producers:
            visitor.socket.settimeout(120)
        for thread in self._threads:
            thread.start()
        yield
        for thread in self._threads:
            thread.join(120)

    @property
    def is_over(self) -> bool:
        """Whether all has been said and answered."""
        return not any(thread.is_alive() for thread in self._threads)

    def _say(self, number: int) -> None:
        for message in self._messages[number :: len(self._producers)]:
            assert self._producers[number].say_bytes(message)
            self.sent += len(message)

    def _hear(self, number: int) -> None:
        for _ in self._messages[number :: len(self._producers)]:
            answer = self._producers[number].hear()
            assert answer is not None
            assert answer["type"] == "SubmitResponse", answer
            self.answers[answer["ref"]] = answer


def _p99(producer: Visitor, ledger: Ledger, name: str) -> float:
    took_s = []
    for number in range(SUBMISSIONS):
        tasks = ledger.intend([{"kind": "B", "payload": number, "key": f"{name}-{number}"}])
        asked_s = time.monotonic()
        answer = producer.ask(submission(*tasks))
        took_s.append(time.monotonic() - asked_s)
        assert answer is not None
        ledger.acknowledge(tasks, answer["ids"])
    return sorted(took_s)[int(0.99 * SUBMISSIONS)]


def _is_at_rest(server: Process) -> bool:
    before = processor_time(server.pid)
    time.sleep(0.3)
    return processor_time(server.pid) - before <= 0.03


def _ask_for_much(visitor: Visitor) -> None:
    visitor.socket.setblocking(False)
    try:
        for _ in range(100):
            visitor.socket.sendall(BIG_PING)
    except BlockingIOError:
        pass  # the server reads no more of it


def _cut(cluster: Cluster) -> list[Line]:
    return serverlog.events(cluster.folder, "connection.cut")


@contextmanager
def _dribbling(visitors: list[Visitor], every_s: float) -> Iterator[None]:
    """Let each say one more byte of a line that never ends, again and again."""
    is_over = Event()

    def dribble() -> None:
        while not is_over.wait(every_s):
            for visitor in visitors:
                visitor.say_bytes(b" ")

    thread = Thread(target=dribble)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _work_once(worker: Visitor, producer: Visitor, ledger: Ledger, number: int) -> None:
    tasks = ledger.intend([{"kind": "A", "payload": number, "key": f"k{number}"}])
    answer = producer.ask(submission(*tasks))
    assert answer is not None
    ledger.acknowledge(tasks, answer["ids"])
    task = worker.hear()
    assert task is not None
    verdict = worker.ask(ledger.send(success(task, number)))
    assert verdict is not None
    ledger.hear(verdict)
