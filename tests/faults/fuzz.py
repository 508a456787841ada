"""Fuzzed lines into the codec and into a server, and what must be true of both afterwards."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio import create_task_group

from dtm.protocol.codec import BadLine, decode_from_client, decode_from_server, encode
from dtm.protocol.messages import Error, Message, Submit
from dtm.storage.lock import StoreLock
from tests.faults.dialogue import Books, Dialogue, digest, write
from tests.faults.mutants import Mutator
from tests.faults.oracle import NEVER
from tests.faults.strictness import is_strict_json
from tests.introduction import introduce
from tests.protocol.examples import FROM_CLIENT, FROM_SERVER
from tests.wire import Line, Wire

AT_ONCE = 24
"""Conversations held at the same time."""

HEALTHY_S = 60.0
"""How long a healthy client may wait for the result of one task, on a machine that is very busy."""

_CODEC = ((decode_from_client, FROM_CLIENT), (decode_from_server, FROM_SERVER))

# SQLite's own JSON functions read what the store keeps.
_UNREADABLE = {
    "a payload is no JSON to SQLite": "SELECT id FROM tasks WHERE NOT json_valid(payload)",
    "a result is no JSON to SQLite": "SELECT id FROM tasks WHERE result NOT NULL AND NOT json_valid(result)",
    "a payload has no type": "SELECT id FROM tasks WHERE json_type(payload) IS NULL OR json(payload) IS NULL",
    "an audit line is no JSON to SQLite": "SELECT seq FROM audit WHERE NOT json_valid(line)",
}


@dataclass(frozen=True)
class Target:
    """A server that listens, and the secret by which it knows an operator."""

    host: str
    port: int
    secret: str


def target_of(db: Path) -> Target:
    """Find the server that holds the store at `db`."""
    holder = StoreLock(db).holder()
    assert holder is not None
    return Target(holder.host, holder.port, holder.secret)


def try_codec(seed: str, lines: int) -> Counter[str]:
    """Put lines into both decoders, and count what came out.

    Raises:
        AssertionError: a verdict is not that of Python's own parser, or what was read is not what was written.
    """
    counts: Counter[str] = Counter()
    for decode, examples in _CODEC:
        mutator = Mutator(examples, random.Random(f"{seed} {decode.__name__}"))
        counts.update(_verdict(decode, mutator.line()) for _ in range(lines // len(_CODEC)))
    return counts


def _verdict(decode: Callable[[bytes], Message], line: bytes) -> str:
    is_json = is_strict_json(line)
    try:
        message = decode(line)
    except BadLine as error:
        refusal = error
    else:
        assert is_json is not False, (message, line[:500])
        _require_exact(decode, message, line)
        return "a message"
    assert is_json is None or refusal.is_fatal is not is_json, (is_json, refusal.code, line[:500])
    assert is_strict_json(encode(Error(refusal.code, str(refusal), refusal.ref))), refusal
    return str(refusal.code)


def _require_exact(decode: Callable[[bytes], Message], message: Message, line: bytes) -> None:
    assert decode(encode(message)[:-1]) == message, (message, line[:500])
    if isinstance(message, Submit):
        # What is left out is null; everything else stands in the line, byte for byte.
        assert all(bytes(task.payload) in line or bytes(task.payload) == b"null" for task in message.tasks), line[:500]


async def try_server(target: Target, seed: str, *, lines: int, books: Books) -> None:
    """Hold conversations with a server until so many lines more are said, a healthy client beside them.

    Raises:
        ExceptionGroup: an answer was wrong, or none came; its notes name the conversation.
    """
    numbers, wanted = count(), books.lines + lines

    async def converse() -> None:
        while books.lines < wanted:
            await _hold(target, f"{seed} {next(numbers)}", books)

    async with create_task_group() as group:
        group.start_soon(Healthy(target, books).run)
        async with create_task_group() as strangers:
            for _ in range(AT_ONCE):
                strangers.start_soon(converse)
        group.cancel_scope.cancel()
    assert books.healthy


async def _hold(target: Target, name: str, books: Books) -> None:
    chance = random.Random(name)
    mutator = Mutator(FROM_CLIENT, chance)
    script = write(mutator, chance)
    async with await anyio.connect_tcp(target.host, target.port) as stream:
        try:
            if script.is_operators:
                await introduce(Wire(stream), target.secret)
            await Dialogue(stream, script, mutator, books).run()
        except Exception as error:
            error.add_note(f"in conversation {name!r}: " + repr([line[:300] for line in script.lines]))
            raise


class Healthy:
    """A client that does everything right, beside those that do not."""

    def __init__(self, target: Target, books: Books) -> None:
        self._target = target
        # The one before may have left a task behind.
        self._kind = f"Healthy {books.healthy}"
        self._books = books

    async def run(self) -> None:
        """Submit tasks and run them, for ever; each must come back within `HEALTHY_S`."""
        async with await anyio.connect_tcp(self._target.host, self._target.port) as stream:
            wire = Wire(stream)
            await wire.say({"type": "Register", "name": "healthy", "kinds": [self._kind], "capacity": 1})
            await wire.expect("RegisterResponse")
            while True:
                with anyio.fail_after(HEALTHY_S):
                    await self._round(wire)
                self._books.healthy += 1
                await anyio.sleep(0.01)

    async def _round(self, wire: Wire) -> None:
        task = {"kind": self._kind, "payload": self._books.healthy}
        await wire.say({"type": "Submit", "ref": self._books.healthy, "tasks": [task], "notify": True})
        wanted = {"SubmitResponse", "ResultResponse", "TaskFinished"}
        while wanted:
            message = await wire.hear()
            if message["type"] == "Task":
                assert message["payload"] == self._books.healthy
                await wire.say(_result(message, self._books.healthy))
            elif message.get("state") == "cancelled":
                # A stranger guessed its number while it waited: it will not come.
                wanted -= {"ResultResponse", "TaskFinished"}
            elif message["type"] != "Cancel":
                wanted.remove(message["type"])
                assert message.get("value", self._books.healthy) == self._books.healthy


def _result(task: Line, value: int) -> Line:
    given = {name: task[name] for name in ("task_id", "assignment")}
    return {"type": "Result", **given, "ok": True, "value": value}


def complaints(db: Path, books: Books) -> Iterator[tuple[str, list[Any]]]:
    """Give what must be true of a store after all that was said to its server, and is not."""
    with closing(_indexed_copy(db)) as connection:
        for claim, statement in (NEVER | _UNREADABLE).items():
            rows = connection.execute(statement).fetchmany(5)
            if rows:
                yield claim, rows
        cleared = {id for (id,) in connection.execute("SELECT task_id FROM dead_letters WHERE resolution = 'cleared'")}
        for column, said in (("payload", books.payloads), ("result", books.values)):
            kept = connection.execute(f"SELECT id, {column} FROM tasks WHERE {column} IS NOT NULL")
            found = {id: digest(text.encode()) for id, text in kept if id in said}
            changed = [id for id, known in said.items() if id in found and found[id] != known]
            if changed:
                yield f"a {column} is not what was acknowledged, to the byte", changed[:5]
            lost = [id for id in said if id not in found and id not in cleared]
            if lost:
                yield f"a {column} that was acknowledged is gone", lost[:5]


def _indexed_copy(db: Path) -> sqlite3.Connection:
    # Questions about each task's attempts and deaths take hours on a million lines without these.
    copy = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.backup(copy)
    copy.executescript("CREATE INDEX a ON assignments(task_id, outcome); CREATE INDEX d ON dead_letters(task_id)")
    return copy
