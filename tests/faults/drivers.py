"""Producers and workers that write down what they say and hear, over as many connections as it takes.

They speak the wire by hand: what they do at each moment is theirs to choose, and a seed chooses it.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, create_task_group, move_on_after

from dtm.protocol.codec import PASSING
from tests.faults.ledger import HASH, Ledger
from tests.server.live import failure, registration, release, submission, success
from tests.waiting import eventually
from tests.wire import Line, Wire

BROKEN = (OSError, EndOfStream, BrokenResourceError, ClosedResourceError, TimeoutError)
COME_BACK_S = 0.005
PING_S = 0.1

ECHO = "Echo"
"""A task that only these workers run; what its result says names the attempt."""


class _Over(Exception):
    """The server wants nothing more on this connection."""


class Driver(ABC):
    """Whoever keeps a connection to HOST:PORT."""

    def __init__(self, address: str, ledger: Ledger, chance: random.Random, name: str) -> None:
        self.address = address
        self.name = name
        self._ledger = ledger
        self._chance = random.Random(chance.random())

    async def run(self) -> None:
        """Talk for ever."""
        while True:
            try:
                async with dial(self.address) as wire:
                    await self._talk(wire)
            except (*BROKEN, _Over):
                await anyio.sleep(COME_BACK_S)

    @abstractmethod
    async def _talk(self, wire: Wire) -> None:
        """Say what this one has to say, until the connection breaks."""


class Producer(Driver):
    """Submits a few tasks at a time, again and again until they are acknowledged; some it gives up on."""

    def __init__(
        self,
        address: str,
        ledger: Ledger,
        chance: random.Random,
        name: str,
        kinds: Sequence[str],
        *,
        pause_s: float = 0.02,
    ) -> None:
        super().__init__(address, ledger, chance, name)
        self._pause_s = pause_s
        self._kinds = kinds
        self._submitted = 0
        self.put_off: list[str] = []
        self._unanswered: list[Line] = []
        self._is_to_stop = False
        self._has_stopped = False

    async def _talk(self, wire: Wire) -> None:
        if self._unanswered and self._chance.random() < 0.1:
            self._unanswered = []  # whether these were taken, nobody will ever ask
        while True:
            if not self._unanswered:
                await anyio.sleep(self._chance.random() * self._pause_s)
                if self._is_to_stop:
                    self._has_stopped = True
                    await anyio.sleep_forever()
                self._unanswered = [self._task() for _ in range(self._chance.randint(1, 5))]
            await wire.say(
                submission(*self._ledger.intend(self._unanswered), ref=1, notify=self._chance.random() < 0.5)
            )
            await self._answer(wire)

    async def stop(self) -> None:
        """Submit nothing more, once what has been submitted is answered or given up."""
        self._is_to_stop = True
        await eventually(lambda: self._has_stopped, within_s=60)

    async def _answer(self, wire: Wire) -> None:
        while True:
            match await wire.hear():
                case {"type": "SubmitResponse", "ids": ids}:
                    self._ledger.acknowledge(self._unanswered, ids)
                    self._unanswered = []
                    return
                case {"type": "TaskFinished", "task_id": task_id, "state": state}:
                    self._ledger.end(task_id, state)
                case {"type": "ShuttingDown"} | {"type": "Error", "code": "shutting-down"}:
                    raise _Over
                case {"type": "Error", "code": code} if code in PASSING:
                    self.put_off.append(code)
                    await anyio.sleep(COME_BACK_S)
                    return
                case message:
                    raise AssertionError(f"{self.name} heard {message}")

    def _task(self) -> Line:
        self._submitted += 1
        name = f"{self.name}/{self._submitted}"
        return {"kind": self._chance.choice(self._kinds), "payload": name, "key": name}


class Worker(Driver):
    """Runs tasks of kind Echo: most go well, some fail, some it gives back, some it keeps for a while."""

    def __init__(
        self,
        address: str,
        ledger: Ledger,
        chance: random.Random,
        name: str,
        *,
        capacity: int = 4,
        failing: float = 0.05,
    ) -> None:
        super().__init__(address, ledger, chance, name)
        self._capacity = capacity
        self._failing = failing
        self._held: dict[int, Line] = {}
        self._results: dict[int, Line] = {}
        self._client_id: int | None = None
        self.heard_tasks = 0

    async def _talk(self, wire: Wire) -> None:
        await wire.say(self._registration())
        welcome = await wire.hear()
        if welcome["type"] == "Error":
            raise _Over
        assert welcome["type"] == "RegisterResponse", welcome
        self._client_id = welcome["client_id"]
        for assignment in welcome["lost"]:
            self._held.pop(assignment, None)
        if self._results:
            await wire.say(*self._results.values())
        while True:
            with move_on_after(PING_S) as waited:
                self._hear(await wire.hear())
            if waited.cancelled_caught:
                await wire.say({"type": "PingRequest"})
            for task in list(self._held.values()):
                await self._work(wire, task)

    def _registration(self) -> Line:
        resume = [*self._held, *self._results]
        return {**registration(ECHO, capacity=self._capacity, name=self.name, resume=resume), "instance": self.name}

    def _hear(self, message: Line) -> None:
        match message:
            case {"type": "Task", "assignment": assignment}:
                self.heard_tasks += 1
                self._held[assignment] = message
            case {"type": "ResultResponse", "assignment": assignment}:
                self._results.pop(assignment, None)
                if assignment in self._ledger.sent:
                    self._ledger.hear(message)
            case {"type": "PingResponse"} | {"type": "ShuttingDown"}:
                pass
            case _:
                raise AssertionError(f"{self.name} heard {message}")

    async def _work(self, wire: Wire, task: Line) -> None:
        draw = self._chance.random()
        if draw < 0.2:
            return  # later
        del self._held[task["assignment"]]
        if draw < 0.25:
            await wire.say(release(task))
            return
        if draw < 0.25 + self._failing:
            result = failure(task)
        else:
            result = success(task, f"{task['payload']} by {self.name} in {task['assignment']}")
        self._results[task["assignment"]] = self._ledger.send(result)
        await wire.say(*[result] * self._chance.choice((1, 1, 1, 2)))


@asynccontextmanager
async def at_work(*drivers: Driver) -> AsyncIterator[None]:
    """Let drivers work as long as the context lasts; one that hears nonsense makes it fail."""
    async with create_task_group() as group:
        for driver in drivers:
            group.start_soon(driver.run)
        yield
        group.cancel_scope.cancel()


KINDS = (ECHO, HASH)


@asynccontextmanager
async def dial(address: str) -> AsyncIterator[Wire]:
    """Connect, as long as the context lasts."""
    host, _, port = address.rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        yield Wire(stream)


async def hand_in(address: str, ledger: Ledger, *tasks: Line) -> list[int]:
    """Submit tasks over a connection of their own, and give their ids."""
    async with dial(address) as wire:
        await wire.say(submission(*ledger.intend(list(tasks))))
        answer = await wire.expect("SubmitResponse")
    ledger.acknowledge(list(tasks), answer["ids"])
    ids: list[int] = answer["ids"]
    return ids
