"""A store in which things have happened, and a stand-in for the server that holds it."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtm.core.balance import LeastLoaded, Seat
from dtm.protocol import messages
from dtm.protocol.codec import decode_from_client, encode
from dtm.protocol.framing import LineBuffer
from dtm.protocol.messages import ClientMessage
from dtm.storage.batch import (
    Batch,
    Departure,
    Failed,
    Failure,
    NewTask,
    Registration,
    Released,
    Report,
    Reprocess,
    Selection,
    Submission,
    Success,
    Why,
)
from dtm.storage.lock import Holder, StoreLock
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.receipt import Assigned, Receipt, Registered, Submitted
from dtm.storage.store import Store
from dtm.storage.transaction import Policy
from dtm.storage.view import TaskRow
from dtm_admin.clock import SECOND, utc_now
from tests.introduction import proof_of

SECRET = "open sesame"
SERVER_NONCE = "ab" * 32
BOOM = Failure("ValueError", "boom", 'Traceback (most recent call last):\n  File "job.py", line 7\nValueError: boom')

# An hour: a retry that is waited for does not fall due while a test runs.
_RETRY_DELAY = 3_600 * SECOND


class Scene:
    """A store, and the hand of a server that let things happen in it; between two of them the file is closed."""

    def __init__(self, db: Path) -> None:
        prepare(db)
        self.db = db

    def apply(self, batch: Batch, *, ago_s: float = 0) -> Receipt:
        """Let one transaction happen, so long ago."""
        policy = Policy(max_retries=3, retry_delay=lambda _, __: _RETRY_DELAY)
        with closing(Store.open(self.db, policy=policy, balance=LeastLoaded())) as store:
            return store.apply(batch, utc_now() - round(ago_s * SECOND))

    def submit(self, *tasks: NewTask, ago_s: float = 0) -> list[int]:
        """Submit tasks, and give their ids."""
        (answer,) = self.apply(Batch(submissions=[Submission(tasks)]), ago_s=ago_s).submissions
        assert isinstance(answer, Submitted)
        return answer.ids

    def connect(self, name: str, *kinds: str, capacity: int = 4, ago_s: float = 0) -> int:
        """Let a client come, and give its number."""
        newcomer = Registration(name, "10.0.0.7:5000", kinds, capacity)
        (answer,) = self.apply(Batch(registrations=[newcomer]), ago_s=ago_s).registrations
        assert isinstance(answer, Registered)
        return answer.client_id

    def assign(self, client_id: int, *kinds: str, free: int = 1, ago_s: float = 0) -> list[Assigned]:
        """Give the client as many tasks as it has room for."""
        seat = Seat(client_id, frozenset(kinds), held=0, free=free)
        return self.apply(Batch(seats=[seat]), ago_s=ago_s).assigned

    def report(
        self, assigned: Sequence[Assigned], outcome: Success | Failed | Released, *, ago_s: float = 0
    ) -> Receipt:
        """Let the clients say how these went."""
        reports = [Report(task.client_id, task.task_id, task.assignment_id, outcome) for task in assigned]
        return self.apply(Batch(reports=reports), ago_s=ago_s)

    def lose(self, client_id: int, *, ago_s: float = 0) -> None:
        """Let the client die."""
        self.apply(Batch(departures=[Departure(client_id, Why.SILENT)]), ago_s=ago_s)

    def bury(
        self,
        kind: str = "add",
        *,
        count: int = 1,
        payload: str = '{"a": 1}',
        failure: Failure = BOOM,
        ago_s: float = 0,
    ) -> list[int]:
        """Let new tasks die, and give their ids."""
        ids = self.submit(*[NewTask(kind, payload) for _ in range(count)], ago_s=ago_s)
        self.fail(kind, count=count, failure=failure, ago_s=ago_s)
        return ids

    def fail(self, kind: str, *, count: int = 1, failure: Failure = BOOM, ago_s: float = 0) -> None:
        """Let waiting tasks die."""
        client = self.connect("gravedigger", kind, capacity=count, ago_s=ago_s)
        while assigned := self.assign(client, kind, free=count, ago_s=ago_s):
            self.report(assigned, Failed(failure, may_retry=False), ago_s=ago_s)
        self.apply(Batch(departures=[Departure(client, Why.GOODBYE)]), ago_s=ago_s)

    def reprocess(self, *ids: int) -> None:
        """Let dead tasks run again, as another operator's command."""
        self.apply(Batch(commands=[Reprocess(Selection(ids=ids), len(ids))]))

    def audit(self) -> list[dict[str, Any]]:
        """Read the lines of the dead-letter log."""
        with closing(Reader.open(self.db)) as reader:
            return [json.loads(line.line) for line in reader.audit_lines(after=0, limit=10_000)]

    def task(self, task_id: int) -> TaskRow | None:
        """Read one task."""
        with closing(Reader.open(self.db)) as reader:
            return reader.tasks_by_id([task_id])[0]

    def states(self, *ids: int) -> list[str | None]:
        """Say where tasks stand; None for those that are gone."""
        with closing(Reader.open(self.db)) as reader:
            return [None if task is None else task.state for task in reader.tasks_by_id(ids)]

    def connection(self) -> sqlite3.Connection:
        """Open the file behind dtm's back."""
        return sqlite3.connect(self.db, isolation_level=None)

    @contextmanager
    def held(self, holder: Holder | None = None) -> Iterator[None]:
        """Hold the store's lock, as another process that announced itself or did not."""
        lock = StoreLock(self.db)
        lock.acquire()
        try:
            if holder is not None:
                lock.announce(holder)
            yield
        finally:
            lock.release()

    def announce_dead(self, holder: Holder) -> None:
        """Leave behind what a server leaves that was killed."""
        StoreLock(self.db).announce(holder)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it wrote, as JSON."""
        return json.loads(self.out)

    @property
    def table(self) -> list[list[str]]:
        """What it wrote, as lines of cells."""
        return [re.split(r"\s{2,}", line.strip()) for line in self.out.splitlines()]


Admin = Callable[..., Outcome]
Answer = Callable[[messages.Admin], bytes | None]


@dataclass
class FakeServer:
    """A listener that knows the operator and answers him by a script; it closes the connection where that is None."""

    answer: Answer
    host: str = "127.0.0.1"
    heard: list[messages.Admin] = field(default_factory=list)
    token: str = SECRET
    certificate: bytes = b""
    _nonce: str = ""

    @contextmanager
    def running(self, *, announced_as: str | None = None) -> Iterator[Holder]:
        """Listen, and give the record that the server would leave beside its store."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.create_server((self.host, 0), family=family) as listener:
            listener.settimeout(10)
            thread = threading.Thread(target=self._serve, args=(listener,))
            thread.start()
            try:
                yield Holder(4711, announced_as or self.host, listener.getsockname()[1], SECRET)
            finally:
                thread.join(10)

    def _serve(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        buffer = LineBuffer()
        with connection:
            connection.settimeout(10)
            while data := connection.recv(65_536):
                for line in buffer.feed(data):
                    reply = self._reply(decode_from_client(line))
                    if reply is None:
                        return
                    connection.sendall(reply)

    def _reply(self, message: ClientMessage) -> bytes | None:
        match message:
            case messages.Authenticate(nonce=nonce):
                self._nonce = nonce
                return encode(messages.Challenge(SERVER_NONCE))
            case messages.Proof(proof=proof):
                client, server = (
                    proof_of(label, self.token, SERVER_NONCE, nonce=self._nonce, certificate=self.certificate)
                    for label in ("client", "server")
                )
                assert proof == client
                return encode(messages.Authenticated(["admin"], server))
            case messages.Admin():
                self.heard.append(message)
                return self.answer(message)
        raise AssertionError(message)
