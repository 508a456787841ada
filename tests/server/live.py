"""A server in this process, and clients that speak the wire by hand."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio import Event, create_task_group
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream
from structlog.testing import capture_logs
from structlog.typing import EventDict

from dtm.server.app import StopRequest, serve
from dtm.server.machine import this_machine
from dtm.server.settings import Settings
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.view import TaskHistory
from tests.introduction import introduce
from tests.waiting import eventually
from tests.wire import Line, Wire

# A fiftieth of the real numbers, so that a death takes a moment.
FAST = Settings(
    port=0,
    heartbeat_interval_s=0.2,
    heartbeat_timeout_s=0.6,
    heartbeat_check_s=0.1,
    reconnect_grace_s=0.2,
    dispatch_check_s=0.02,
    retry_backoff_s=(0.01, 0.01),
)


class Peer(Wire):
    """One connection to a server."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream)
        self._fences = 0

    async def settled(self) -> list[Line]:
        """Give everything that what was said so far has set in motion.

        A submission is answered by the commit that also answers what came before it, so the second one comes later
        than anything of the first one's.
        """
        heard = []
        for _ in range(2):
            self._fences -= 1
            await self.say({"type": "Submit", "ref": self._fences, "tasks": [{"kind": "Fence"}]})
            while (message := await self.hear()).get("ref") != self._fences:
                heard.append(message)
        return heard

    async def register(
        self,
        *kinds: str,
        capacity: int = 1,
        name: str = "worker",
        resume: list[int] | None = None,
        instance: str | None = None,
    ) -> Line:
        """Register, and give the answer."""
        line = registration(*kinds, capacity=capacity, name=name, resume=resume)
        await self.say({**line, "instance": instance})
        return await self.expect("RegisterResponse")

    async def submit(self, *tasks: Line, notify: bool = False) -> list[int]:
        """Submit tasks, and give their ids."""
        answer = await self.ask(submission(*tasks, notify=notify))
        assert answer["type"] == "SubmitResponse", answer
        ids: list[int] = answer["ids"]
        return ids

    async def become_operator(self, live: Live) -> None:
        """Prove to know the secret that lies beside the store."""
        answer = await introduce(self, live.secret)
        assert answer["roles"] == ["admin"], answer

    async def query(self, *ids: int, notify: bool = False) -> list[Line | None]:
        """Ask how tasks stand."""
        answer = await self.ask({"type": "Query", "ref": 7, "ids": ids, "notify": notify})
        assert answer["type"] == "QueryResponse", answer
        tasks: list[Line | None] = answer["tasks"]
        return tasks


class Live:
    """A running server."""

    def __init__(self, settings: Settings, port: int, events: list[EventDict], stop: StopRequest) -> None:
        self.settings = settings
        self.port = port
        self.events = events
        self.stop = stop
        self.ended = Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Serve."""
        with self._scope:
            await serve(self.settings, self.stop, this_machine())
        self.ended.set()

    async def kill(self) -> None:
        """End it without an orderly end: nobody is told anything, and nothing more is written."""
        self._scope.cancel()
        await self.ended.wait()

    @asynccontextmanager
    async def dial(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
        """Connect a client."""
        async with await anyio.connect_tcp(self.settings.host, self.port) as stream:
            if tls is None:
                yield Peer(stream)
                return
            async with await TLSStream.wrap(
                stream, hostname="localhost", ssl_context=tls, standard_compatible=False
            ) as secured:
                yield Peer(secured)

    @property
    def secret(self) -> str:
        """What the operator of this machine finds beside the store."""
        record: Line = json.loads(self.settings.db.with_name("tasks.db.server").read_text())
        secret: str = record["secret"]
        return secret

    def logged(self, event: str) -> list[EventDict]:
        """Give what was logged under this name."""
        return [entry for entry in self.events if entry["event"] == event]

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Look into the store."""
        with closing(Reader.open(self.settings.db)) as reader:
            yield reader

    def history(self, task_id: int) -> TaskHistory:
        """Tell everything about a task."""
        with self.reader() as reader:
            history = reader.history(task_id)
        assert history is not None
        return history

    def state(self, task_id: int) -> tuple[str, int]:
        """Say where a task stands, and how many of its attempts have failed."""
        task = self.history(task_id).task
        return task.state, task.retry_count

    def log_lines(self) -> list[Line]:
        """Read the dead-letter log."""
        return [json.loads(line) for line in self.settings.dead_letter_log.read_text().splitlines()]


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[Live]:
    """Run a server on the store in `folder` as long as the context lasts; one that fails makes the context fail."""
    files = {"db": furnish(folder), "dead_letter_log": folder / "dead.log"}
    settings = msgspec.structs.replace(FAST, **files, **changes)
    stop = StopRequest(Event(), Event())
    with capture_logs() as events:
        async with create_task_group() as group:
            live = Live(settings, 0, events, stop)
            group.start_soon(live.run)
            listening = await eventually(lambda: live.logged("listening"))
            live.port = int(listening[0]["address"].rpartition(":")[2])
            yield live
            stop.drain.set()
            stop.now.set()


def furnish(folder: Path) -> Path:
    """Put an empty store into `folder` if there is none; copying one is quicker than making one."""
    path = folder / "tasks.db"
    if not path.exists():
        path.write_bytes(_empty_store())
    return path


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        prepare(path)
        return path.read_bytes()


def registration(*kinds: str, capacity: int = 1, name: str = "worker", resume: list[int] | None = None) -> Line:
    """Write a `Register`."""
    return {"type": "Register", "name": name, "kinds": kinds, "capacity": capacity, "resume": resume or []}


def submission(*tasks: Line, ref: int = 1, notify: bool = False) -> Line:
    """Write a `Submit`."""
    return {"type": "Submit", "ref": ref, "tasks": tasks, "notify": notify}


def success(task: Line, value: Any = None) -> Line:
    """Write the `Result` of a task that went well."""
    return {"type": "Result", "task_id": task["task_id"], "assignment": task["assignment"], "ok": True, "value": value}


def failure(task: Line, message: str = "boom", *, retry: bool = True) -> Line:
    """Write the `Result` of a task that failed."""
    return {
        "type": "Result",
        "task_id": task["task_id"],
        "assignment": task["assignment"],
        "ok": False,
        "error": {"type": "ValueError", "message": message},
        "retry": retry,
    }


def release(task: Line) -> Line:
    """Write the `Release` of a task."""
    return {"type": "Release", "task_id": task["task_id"], "assignment": task["assignment"]}
