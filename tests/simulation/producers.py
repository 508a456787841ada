"""The simulated producers: the real `Producer`, and a program around it that remembers what it wants when it dies."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from anyio import create_task_group, sleep
from anyio.abc import ByteStream

from dtm.client.link import Link, LinkLost, Unreachable
from dtm.client.producer import Producer
from dtm.client.requests import RequestRefused
from dtm.protocol.codec import ErrorCode, encode
from dtm.protocol.messages import Admin, SubmittedTask, TaskFinished
from dtm.security.errors import NotAdmitted
from dtm.security.handshake import NONCE_BYTES, channel_of
from dtm.security.introduction import Introduction
from dtm.security.tokens import Token
from tests.client.hearing import next_from
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.servers import PORT, Servers


class Wish:
    """Tasks to be submitted together, and what came of it."""

    def __init__(self, tasks: list[SubmittedTask], *, at_s: float, follow: bool, may_conflict: bool = False) -> None:
        self.tasks = tasks
        self.at_s = at_s
        self.follow = follow
        self.may_conflict = may_conflict
        self.ids: list[int] | None = None
        self.ends: dict[int, TaskFinished] = {}
        self.refused: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be heard."""
        if self.refused is not None:
            return True
        return self.ids is not None and (not self.follow or self.ends.keys() >= set(self.ids))


class Producers:
    """Programs that submit, each in a process that is started again when it was killed."""

    def __init__(self, loop: SimulatedLoop, network: Network, *, seed: int, note: Any) -> None:
        self.processes: dict[str, Process] = {}
        self.wishes: dict[str, list[Wish]] = {}
        self._loop = loop
        self._network = network
        self._chance = random.Random(f"producers {seed}")
        self._note = note

    @property
    def present(self) -> list[Process]:
        """Those that run at the moment."""
        return list(self.processes.values())

    async def employ(self, name: str, wishes: list[Wish]) -> None:
        """Run a program until all its wishes are fulfilled."""
        self.wishes[name] = wishes
        starts = 0
        while not all(wish.is_done for wish in wishes):
            starts += 1
            process = self.processes[name] = Process(self._loop, f"{name}.{starts}")
            self._note("producer.start", process.name)
            await process.run(self._produce, process, wishes)
            self._note("producer.end", process.name, len(process.endpoints))
            process.kill()
            del self.processes[name]
            await sleep(self._chance.random())

    async def _produce(self, process: Process, wishes: list[Wish]) -> None:
        async def connect(_: str, port: int) -> ByteStream:
            return await self._network.connect(process, port)

        chance = random.Random(self._chance.random())
        try:
            async with (
                Producer.open("server", PORT, connect=connect, chance=chance, on_trouble=lambda _: None) as producer,
                create_task_group() as group,
            ):
                for wish in wishes:
                    if not wish.is_done:
                        group.start_soon(self._fulfil, producer, wish)
        except* Unreachable:
            pass

    async def _fulfil(self, producer: Producer, wish: Wish) -> None:
        await sleep(max(0.0, wish.at_s - self._loop.time()))
        try:
            if wish.ids is None:
                wish.ids = await producer.submit(wish.tasks, follow=wish.follow)
            elif wish.follow:
                await producer.query(wish.ids, follow=True)
        except RequestRefused as refusal:
            if refusal.code != ErrorCode.KEY_CONFLICT or not wish.may_conflict:
                raise
            wish.refused = refusal.code
            return
        if wish.follow:
            for id in dict.fromkeys(wish.ids):
                wish.ends[id] = await producer.end_of(id)


class Operator:
    """Somebody who settles dead letters through the live server."""

    def __init__(self, loop: SimulatedLoop, network: Network, servers: Servers, *, note: Any) -> None:
        self.at_work = 0
        self._loop = loop
        self._network = network
        self._servers = servers
        self._note = note

    async def command(self, name: str, limit: int) -> None:
        """Give one command, and wait a while for its answer."""
        process = Process(self._loop, "operator")
        process.is_secretive = True
        self.at_work += 1
        await process.run(self._command, process, name, limit)
        process.kill()
        self.at_work -= 1

    async def _command(self, process: Process, name: str, limit: int) -> None:
        async def connect(_: str, port: int) -> ByteStream:
            return await self._network.connect(process, port)

        note = self._servers.folder / "tasks.db.server"
        if not note.exists():
            return
        token = Token(msgspec.json.decode(note.read_bytes())["secret"])
        arguments = msgspec.Raw(msgspec.json.encode({"selection": {"everything": True}, "limit": limit}))
        try:
            link = await Link.open("server", PORT, connect)
            await _introduce(link, Introduction(token, nonce=bytes(NONCE_BYTES), channel=channel_of(None)))
            await link.send(encode(Admin(1, name, arguments)))
            answers = await next_from(link)
            self._note("operator", name, *(type(answer).__name__ for answer in answers))
            await link.close()
        except (Unreachable, LinkLost, NotAdmitted) as trouble:
            # Also another server than the one whose note was read.
            self._note("operator", name, type(trouble).__name__)


async def _introduce(link: Link, introduction: Introduction) -> None:
    await link.send(encode(introduction.opening))
    while not introduction.is_over:
        for answer in filter(None, map(introduction.hear, await next_from(link))):
            await link.send(encode(answer))
