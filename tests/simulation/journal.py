"""Everything that was said on every connection, and what of it the oracle needs.

It listens where a process hands its bytes to the system: what was said may never have arrived.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from dtm.protocol import messages
from dtm.protocol.codec import decode_from_client, decode_from_server
from dtm.protocol.framing import LineBuffer
from tests.simulation.connection import Connection, Stream
from tests.simulation.process import Process

_LONG = 4 * 1024 * 1024


class Intent(Struct, frozen=True):
    """A task as its submitter wanted it."""

    kind: str
    payload: bytes


class Said(Struct, frozen=True):
    """What a worker said of an assignment."""

    process: Process
    task_id: int
    outcome: str
    at_s: float
    value: bytes | None = None


class Joined(Struct, frozen=True):
    """A registration that the server confirmed."""

    client_id: int
    process: Process
    stream: Stream
    at_s: float

    def had_trouble(self, since_s: float) -> bool:
        """Whether anything kept it from being heard since then."""
        return self.stream.connection.was_troubled(since_s)


class Trace:
    """The order of all events, and its digest; two runs of one seed have the same."""

    def __init__(self, now_s: Callable[[], float], on_line: Callable[[str], object] | None) -> None:
        self._now_s = now_s
        self._on_line = on_line
        self._hash = blake2b(digest_size=16)
        self.lines = 0

    def note(self, *fields: object) -> None:
        """Write one event down."""
        line = f"{self._now_s():12.6f} {' '.join(map(str, fields))}"
        self.lines += 1
        self._hash.update(line.encode())
        if self._on_line is not None:
            self._on_line(line)

    def show(self, *fields: object) -> None:
        """Show to whoever reads along what is not part of the digest."""
        if self._on_line is not None:
            self._on_line(f"{self._now_s():12.6f}   {' '.join(map(str, fields))}")

    @property
    def digest(self) -> str:
        """The digest of everything so far."""
        return self._hash.hexdigest()


class Journal:
    """What was said."""

    def __init__(self, trace: Trace, now_s: Callable[[], float]) -> None:
        self._trace = trace
        self.now_s = now_s
        self.violations: list[str] = []
        self.intents: dict[str, list[Intent]] = defaultdict(list)
        self.acknowledged: dict[str, list[int]] = defaultdict(list)
        self.assigned: dict[int, int] = {}
        self.reports: dict[int, list[Said]] = defaultdict(list)
        self.verdicts: dict[int, set[str]] = defaultdict(set)
        self.ends: list[messages.TaskFinished] = []
        self.members: dict[int, Joined] = {}
        self.asked: dict[str, dict[Process, dict[Stream, None]]] = defaultdict(dict)
        self.lost: set[int] = set()
        self.farewells: dict[Connection, None] = {}

    def blame(self, *words: object) -> None:
        """Write down that a promise was broken."""
        violation = " ".join(map(str, words))
        self._trace.note("VIOLATION", violation)
        self.violations.append(f"at {self.now_s():.3f} s: {violation}")

    def watch(self, connection: Connection) -> None:
        """Listen to a new connection."""
        Conversation(self, self._trace, connection)

    def member(self, client_id: int, name: str) -> Joined | None:
        """Give the registration of that number; one without an answer is known by its name, if only one has it.

        Which of several it was, nobody knows: it counts as the first.
        """
        asked = self.asked[name]
        if client_id in self.members or len(asked) != 1:
            return self.members.get(client_id)
        ((process, streams),) = asked.items()
        answered = {member.stream for member in self.members.values()}
        stream = next((stream for stream in streams if stream not in answered), None)
        return None if stream is None else Joined(client_id, process, stream, self.now_s())

    def newest_of(self, process: Process) -> Joined | None:
        """Give the last confirmed registration of a process."""
        of_it = [member for member in self.members.values() if member.process is process]
        return max(of_it, key=lambda member: member.client_id, default=None)


class Conversation:
    """What is said on one connection."""

    def __init__(self, journal: Journal, trace: Trace, connection: Connection) -> None:
        self._journal = journal
        self._trace = trace
        self._connection = connection
        self._from_client, self._from_server = LineBuffer(_LONG), LineBuffer(_LONG)
        self._submitted: dict[int, messages.Submit] = {}
        self._hears: dict[type, Callable[[Any], None]] = {
            messages.Submit: self._submit,
            messages.Result: self._result,
            messages.Release: self._release,
            messages.SubmitResponse: self._acknowledge,
            messages.Task: self._assign,
            messages.ResultResponse: self._judge,
            messages.RegisterResponse: self._join,
            messages.TaskFinished: journal.ends.append,
            messages.Register: self._ask,
            messages.Capacity: self._declare,
            messages.Goodbye: lambda _: journal.farewells.setdefault(connection),
        }
        self._held: set[int] = set()
        self._capacity = 0
        connection.client.on_sent = self._client_sent
        connection.server.on_sent = self._server_sent

    def _client_sent(self, data: bytes) -> None:
        self._note("<", data)
        for line in self._from_client.feed(data):
            self._trace.show(self._connection.number, "<", line)
            self._hear(decode_from_client(line))

    def _server_sent(self, data: bytes) -> None:
        self._note(">", data)
        for line in self._from_server.feed(data):
            self._trace.show(self._connection.number, ">", line)
            self._hear(decode_from_server(line))

    def _note(self, direction: str, data: bytes) -> None:
        # A handshake holds numbers that are others in each run, of the same length.
        content = "secret" if self._connection.client.process.is_secretive else zlib.crc32(data)
        self._trace.note(self._connection.number, direction, len(data), content)

    def _hear(self, message: messages.Message) -> None:
        hears = self._hears.get(type(message))
        if hears is not None:
            hears(message)

    def _submit(self, message: messages.Submit) -> None:
        self._submitted[message.ref] = message
        for task in message.tasks:
            assert task.key is not None
            intent = Intent(task.kind, bytes(task.payload))
            if intent not in self._journal.intents[task.key]:
                self._journal.intents[task.key].append(intent)

    def _acknowledge(self, message: messages.SubmitResponse) -> None:
        for task, id in zip(self._submitted[message.ref].tasks, message.ids, strict=True):
            assert task.key is not None
            if task.unique is not None and id in message.duplicates:
                continue  # perhaps its twin's, which has another key
            ids = self._journal.acknowledged[task.key]
            if id not in ids:
                ids.append(id)

    def _assign(self, message: messages.Task) -> None:
        earlier = self._journal.assigned.setdefault(message.assignment, message.task_id)
        if earlier != message.task_id:
            self._journal.blame("assignment", message.assignment, "was given for two tasks")
        self._held.add(message.assignment)
        if len(self._held) > self._capacity:
            name = self._connection.client.process.name
            self._journal.blame(name, "takes", self._capacity, "tasks and was given", len(self._held))

    def _ask(self, message: messages.Register) -> None:
        client, server = self._connection.client, self._connection.server
        self._journal.asked[message.name].setdefault(client.process, {})[server] = None
        self._declare(message)

    def _declare(self, message: messages.Register | messages.Capacity) -> None:
        # Of what was ever declared here, as nobody knows when the server hears of less.
        self._capacity = max(self._capacity, message.capacity)

    def _result(self, message: messages.Result) -> None:
        self._held.discard(message.assignment)
        outcome = "completed" if message.ok else "failed"
        said = Said(
            self._connection.client.process, message.task_id, outcome, self._journal.now_s(), bytes(message.value)
        )
        self._journal.reports[message.assignment].append(said)

    def _release(self, message: messages.Release) -> None:
        self._held.discard(message.assignment)
        said = Said(self._connection.client.process, message.task_id, "released", self._journal.now_s())
        self._journal.reports[message.assignment].append(said)

    def _judge(self, message: messages.ResultResponse) -> None:
        self._journal.verdicts[message.assignment].add(message.status)

    def _join(self, message: messages.RegisterResponse) -> None:
        self._held.update(message.resumed)
        self._journal.lost.update(message.lost)
        if message.client_id not in self._journal.members:
            client, server = self._connection.client, self._connection.server
            self._journal.members[message.client_id] = Joined(
                message.client_id,
                client.process,
                server,
                self._journal.now_s(),
            )
