"""The simulated worker machines: the real `Worker`, with slots that run a task in made-up time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from anyio import Event, sleep
from anyio.abc import ByteStream
from msgspec import Struct

from dtm.client.handlers import Handler, Handlers, registry
from dtm.client.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from dtm.client.slots import Slots
from dtm.client.verdicts import Reject
from dtm.client.work import Work
from dtm.client.worker import Worker, WorkerSettings
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.process import Process


class Job(Struct, frozen=True):
    """A payload: what is to happen when the task runs."""

    key: str
    takes_s: float
    fails: int = 0
    rejects: bool = False
    kills: int = 0


class Labour:
    """What all runs of tasks have in common: each is counted, and gives another value."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()

    def perform(self, job: Job) -> Any:
        """Run a task."""
        self.runs[job.key] += 1
        if job.rejects:
            raise Reject("never")
        if self.runs[job.key] <= job.fails:
            raise RuntimeError("not yet")
        return {"key": job.key, "run": self.runs[job.key]}


class SimulatedSlots(Slots):
    """Slots without threads: a task that was begun has run when its time is over."""

    def __init__(
        self, count: int, on_done: Callable[[], object], *, loop: SimulatedLoop, process: Process, labour: Labour
    ) -> None:
        super().__init__(on_done, loop.time)
        self._free = count
        self._loop = loop
        self._process = process
        self._labour = labour

    def put(self, work: Work) -> None:
        """Let `work` run as soon as a slot is free."""
        super().put(work)
        self._begin()

    def _begin(self) -> None:
        while self._free and not self._waiting.empty():
            work = self.take()
            self._free -= 1
            job = msgspec.json.decode(work.payload, type=Job)
            self._loop.call_later(job.takes_s, self._finish, work, job)

    def _finish(self, work: Work, job: Job) -> None:
        if self._process.is_dead:
            return
        if self._labour.runs[job.key] < job.kills:
            self._labour.runs[job.key] += 1
            self._process.kill()
            return
        self._free += 1
        self.run(work)
        self._begin()


class Staff(Struct, frozen=True):
    """One worker's place: its name, its kinds, its size."""

    name: str
    kinds: tuple[str, ...]
    concurrency: int
    prefetch: int | None
    keeps_name: bool


class Workers:
    """The workers, each in a process that is started again when it has ended."""

    def __init__(self, loop: SimulatedLoop, network: Network, *, seed: int, note: Any) -> None:
        self.processes: dict[str, Process] = {}
        self.stops: dict[str, tuple[Event, Event]] = {}
        self.is_over = False
        self.labour = Labour()
        self._loop = loop
        self._network = network
        self._chance = random.Random(f"workers {seed}")
        self._note = note

    @property
    def present(self) -> list[Process]:
        """Those that run at the moment."""
        return list(self.processes.values())

    def stop(self, place: str, *, now: bool) -> None:
        """Tell one to end in good order."""
        stop, at_once = self.stops[place]
        stop.set()
        if now:
            at_once.set()

    async def employ(self, staff: Staff) -> None:
        """Run a worker again and again."""
        starts = 0
        await sleep(self._chance.random())
        while not self.is_over:
            starts += 1
            name = staff.name if staff.keeps_name else f"{staff.name}.{starts}"
            process = self.processes[staff.name] = Process(self._loop, f"{staff.name}.{starts}")
            self.stops[staff.name] = Event(), Event()
            self._note("worker.start", process.name, name)
            await process.run(self._work, process, name, staff)
            self._note("worker.end", process.name, len(process.endpoints))
            process.kill()
            del self.processes[staff.name], self.stops[staff.name]
            if not self.is_over:
                await sleep(self._chance.random() * 2)

    async def _work(self, process: Process, name: str, staff: Staff) -> None:
        async def connect(_: str, port: int) -> ByteStream:
            return await self._network.connect(process, port)

        def slots(count: int, on_done: Callable[[], object]) -> Slots:
            return SimulatedSlots(count, on_done, loop=self._loop, process=process, labour=self.labour)

        settings = WorkerSettings(
            host="server", port=12345, name=name, concurrency=staff.concurrency, shutdown_timeout_s=3.0
        )
        prefetch: Prefetch = AutoPrefetch() if staff.prefetch is None else FixedPrefetch(staff.prefetch)
        chance = random.Random(self._chance.random())
        worker = Worker(settings, self._handlers(staff), prefetch, connect=connect, slots=slots, chance=chance)
        await worker.run(*self.stops[staff.name])

    def _handlers(self, staff: Staff) -> Handlers:
        return registry(*(Handler(kind, self.labour.perform, Job) for kind in staff.kinds))
