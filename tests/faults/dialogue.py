"""One fuzzed conversation with a server: what is said, and what must be heard for it."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from anyio import BrokenResourceError, EndOfStream, create_task_group, fail_after
from anyio.abc import ByteStream

from dtm.protocol import messages
from dtm.protocol.codec import BadLine, ErrorCode, decode_from_client, decode_from_server, encode
from dtm.protocol.framing import MAX_LINE, LineBuffer
from dtm.protocol.messages import ClientMessage, ServerMessage
from tests.faults.mutants import KINDS, Mutator
from tests.faults.strictness import is_strict_json

MOST_LINES = 60
MOST_REPLIES = 10
PATIENCE_S = 120.0
"""Longer than any answer takes: whoever waits so long has found a defect."""

# A submission is answered by the commit that also answers what came before it, so that the second comes after all
# that the lines before the first have set in motion. From the second conversation on the key makes it a refusal.
_FENCES = (-7_000_001, -7_000_002)
_FATAL = (ErrorCode.BAD_JSON, ErrorCode.LINE_TOO_LONG, ErrorCode.UNAUTHENTICATED)
_ENDS_IT = re.compile(rb"Goodbye|Proof|Authenticate")
_MOST_HEARD = 64 * MAX_LINE


@dataclass
class Script:
    """Lines to be said, and what is known beforehand of the answers; by an operator, if he has proved to be one."""

    is_operators: bool = False
    has_challenge: bool = False
    lines: list[bytes] = field(default_factory=list)
    least: int = 0
    most: int = 0
    submissions: dict[int, messages.Submit | None] = field(default_factory=dict)
    last_code: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the server reads nothing behind the last line."""
        return self.last_code is not None

    def add(self, line: bytes) -> None:
        """Say one line more, and note what must be heard for it."""
        self.lines.append(line)
        if len(line) > MAX_LINE:
            self._refused(ErrorCode.LINE_TOO_LONG)
        elif line.strip():
            try:
                self._expect(decode_from_client(line))
            except BadLine as error:
                self._refused(error.code)

    def _expect(self, message: ClientMessage) -> None:
        match message:
            case messages.Goodbye():
                self.last_code = "goodbye"
                return None
            case messages.Proof():
                return self._refused(ErrorCode.UNAUTHENTICATED)
            case messages.Authenticate():
                if self.has_challenge:
                    return self._refused(ErrorCode.UNAUTHENTICATED)
                self.has_challenge = True
            case messages.Admin() if not self.is_operators:
                return self._refused(ErrorCode.UNAUTHENTICATED)
            case messages.Submit(ref=ref):
                # An answer to a reference that was used twice could belong to either.
                self.submissions[ref] = None if ref in self.submissions else message
        self.most += 1
        self.least += not isinstance(message, messages.Capacity | messages.Progress)
        return None

    def _refused(self, code: ErrorCode) -> None:
        self.least += 1
        self.most += 1
        if code in _FATAL:
            self.last_code = code


def write(mutator: Mutator, chance: random.Random) -> Script:
    """Write a conversation; a line that ends it stands last, if there is one."""
    is_operators = chance.random() < 0.3
    script = Script(is_operators=is_operators, has_challenge=is_operators)
    wanted = chance.randint(1, MOST_LINES)
    if chance.random() < 0.5:
        script.add(encode(messages.Register(f"w{chance.getrandbits(60):x}", list(KINDS), chance.randint(1, 6)))[:-1])
    while len(script.lines) < wanted and not script.is_over:
        line = mutator.line()
        ends_it = len(line) > MAX_LINE or is_strict_json(line) is not True or _ENDS_IT.search(line) is not None
        # Half of all mutants end their conversation: most of those are tried on the codec alone.
        if not ends_it or chance.random() < 0.05 or not script.lines:
            script.add(line)
    return script


@dataclass
class Books:
    """What the server has acknowledged, and how often it said what."""

    payloads: dict[int, bytes] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    conversations: int = 0
    healthy: int = 0
    """How often a healthy client was served meanwhile."""


def digest(text: bytes) -> bytes:
    """Stand for a text that may be a megabyte long."""
    return hashlib.sha256(text).digest()


class Dialogue:
    """A script, performed."""

    def __init__(self, stream: ByteStream, script: Script, mutator: Mutator, books: Books) -> None:
        self._stream = stream
        self._script = script
        self._mutator = mutator
        self._books = books
        self._buffer = LineBuffer(_MOST_HEARD)
        self._heard: list[ServerMessage] = []
        self._fences = 0
        self._is_closed = False
        self._values: dict[int, bytes] = {}

    async def run(self) -> None:
        """Say everything, answer the tasks that come of it, and check what was heard.

        Raises:
            AssertionError: the server did not answer as it must.
            TimeoutError: it did not answer at all.
        """
        with fail_after(PATIENCE_S):
            async with create_task_group() as group:
                group.start_soon(self._say, [*self._script.lines, _fence(0)])
                await self._hear_until(lambda: self._fences == 1)
            await self._say([_fence(1)])
            await self._hear_until(lambda: self._fences == 2)
            await self._reply()
            await self._end_input()
            await self._hear_until(lambda: False)
        self._check()

    async def _say(self, lines: list[bytes]) -> None:
        # The server may have hung up on an earlier line; what it said about that is still to be read.
        if not self._is_closed:
            with suppress(BrokenResourceError):
                await self._stream.send(b"".join(line + b"\n" for line in lines))

    async def _end_input(self) -> None:
        if not self._is_closed:
            with suppress(BrokenResourceError, OSError):
                await self._stream.send_eof()

    async def _hear_until(self, is_enough: Callable[[], bool]) -> None:
        while not self._is_closed and not is_enough():
            try:
                data = await self._stream.receive(MAX_LINE)
            except (EndOfStream, BrokenResourceError):
                self._is_closed = True
                return
            for line in self._buffer.feed(data):
                self._take(line)

    def _take(self, line: bytes) -> None:
        assert is_strict_json(line), line[:500]
        message = decode_from_server(line)
        if getattr(message, "ref", None) in _FENCES:
            self._fences += 1
        else:
            self._heard.append(message)

    async def _reply(self) -> None:
        """Report on some of the tasks that came, well or not quite."""
        said = []
        for task in [message for message in self._heard if isinstance(message, messages.Task)][:MOST_REPLIES]:
            if self._script.is_over:
                break
            line, value = self._mutator.result(task)
            self._script.add(line)
            said.append(line)
            if value is not None:
                self._values[task.assignment] = value
        await self._say(said)

    def _check(self) -> None:
        script, books = self._script, self._books
        answers = [message for message in self._heard if not isinstance(message, _UNASKED)]
        assert script.least <= len(answers) <= script.most, (script.least, len(answers), script.most, answers)
        ends = [message.code for message in answers if isinstance(message, messages.Error) and message.code in _FATAL]
        assert ends == ([script.last_code] if script.last_code in _FATAL else []), (script.last_code, answers)
        assert self._is_closed
        books.lines += len(script.lines)
        books.conversations += 1
        for message in self._heard:
            self._note(message)

    def _note(self, message: ServerMessage) -> None:
        books = self._books
        name = f"Error {message.code}" if isinstance(message, messages.Error) else type(message).__name__
        books.answers[name] += 1
        match message:
            case messages.SubmitResponse(ref=ref, ids=ids, duplicates=duplicates):
                submission = self._script.submissions.get(ref)
                if submission is not None and not duplicates:
                    payloads = [digest(bytes(task.payload)) for task in submission.tasks]
                    books.payloads.update(zip(ids, payloads, strict=True))
            case messages.ResultResponse(assignment=assignment, status="accepted", task_id=task_id, state="completed"):
                if assignment in self._values:
                    books.values[task_id] = digest(self._values[assignment])


# What a server says of itself.
_UNASKED = (messages.Task, messages.TaskFinished, messages.TaskUpdate, messages.Cancel, messages.ShuttingDown)


def _fence(number: int) -> bytes:
    return encode(messages.Submit(_FENCES[number], [messages.SubmittedTask("Fence", key="fence")]))[:-1]
