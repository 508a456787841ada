"""The producer: submits tasks and follows them to their end, over as many connections as it takes.

A request that was not answered is sent again, and so is one that was refused for the moment. A submission may so
arrive twice; the keys of its tasks see to it that none is taken twice.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial

import anyio
from anyio import Event, create_task_group
from msgspec import UNSET

from dtm.client.link import Connect, Link, LinkLost, Unreachable
from dtm.client.outgoing import Outgoing, ping_forever
from dtm.client.requests import Answer, Question, Request, RequestRefused, fits
from dtm.client.watches import Watch, Watches
from dtm.core.backoff import Backoff
from dtm.core.errors import DtmError
from dtm.protocol.codec import PASSING, ErrorCode
from dtm.protocol.messages import (
    CancelRequest,
    CancelResponse,
    Error,
    Query,
    QueryResponse,
    ServerMessage,
    Submit,
    SubmitResponse,
    SubmittedTask,
    TaskFinished,
    TaskStatus,
    TaskUpdate,
)
from dtm.security.errors import NotAdmitted
from dtm.security.introduction import REFUSES_CLIENT

BACKOFF = Backoff(0.1, 3.0)
PING_INTERVAL_S = 10.0
SILENCE_S = 30.0

# Five hundred results of a hundred kilobytes would not fit into one answer; small ones do by thousands.
MOST_QUERIED = 500


class Closed(DtmError):
    """The producer was closed, and this was not answered before."""


class Producer:
    """A client that submits tasks and asks what became of them."""

    def __init__(
        self, host: str, port: int, *, connect: Connect, chance: random.Random, on_trouble: Callable[[str], None]
    ) -> None:
        self._host = host
        self._port = port
        self._connect = connect
        self._chance = chance
        self._on_trouble = on_trouble
        self._next_ref = 1
        self._failures = 0
        self._requests: dict[int, Request] = {}
        self._watches = Watches()
        self._over: DtmError | None = None
        self._outgoing: Outgoing | None = None
        self._refusals = 0
        self._put_off: list[int] = []
        self._has_put_off = Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, host: str, port: int, *, connect: Connect, chance: random.Random, on_trouble: Callable[[str], None]
    ) -> AsyncIterator[Producer]:
        """Connect, and stay connected as long as the context lasts; `on_trouble` hears why that was not so.

        Raises:
            Unreachable: there is no server to begin with.
            NotAdmitted: it refuses this client, or this client the server; also later.
        """
        producer = cls(host, port, connect=connect, chance=chance, on_trouble=on_trouble)
        link = await Link.open(host, port, connect)
        async with create_task_group() as group:
            group.start_soon(producer._stay_connected, link)
            try:
                yield producer
            finally:
                # Others may still wait for what will not come.
                producer._end(Closed("the app was closed, and nobody waits for its server's answers any more"))
                group.cancel_scope.cancel()

    async def submit(self, tasks: Sequence[SubmittedTask], *, follow: bool) -> list[int]:
        """Submit tasks, all or none, and give their ids once they are on the server's disk.

        Give every task a key: what is sent again after a break is then taken once. With `follow`, `end_of` may wait
        for each of them.

        Raises:
            RequestRefused: the server will not take them.
        """
        answer = await self._ask(Submit(self._take_ref(), list(tasks), notify=follow))
        assert isinstance(answer, SubmitResponse)
        return answer.ids

    async def submit_in_parts(self, tasks: Sequence[SubmittedTask], *, follow: bool) -> list[int]:
        """Submit tasks, all or none of as many as the server takes at once, and give their ids.

        Raises:
            RequestRefused: the server will not take one of them; others may have been taken.
        """
        try:
            return await self.submit(tasks, follow=follow)
        except RequestRefused as refusal:
            if refusal.code != ErrorCode.TOO_MANY_TASKS or len(tasks) == 1:
                raise
        half = len(tasks) // 2
        return [
            *await self.submit_in_parts(tasks[:half], follow=follow),
            *await self.submit_in_parts(tasks[half:], follow=follow),
        ]

    async def cancel(self, ids: Sequence[int]) -> list[str | None]:
        """Cancel tasks, and give their states once that is on the server's disk; None where there is no such task.

        Raises:
            RequestRefused: the server will not.
        """
        answer = await self._ask(CancelRequest(self._take_ref(), list(ids)))
        assert isinstance(answer, CancelResponse)
        return answer.states

    def following(self, task_id: int, *, updates: bool = False) -> AbstractContextManager[Watch]:
        """Follow a task as long as the context lasts, over all connections."""
        if self._over is not None:
            raise self._over.with_traceback(None)
        return self._watches.held(task_id, updates=updates)

    async def query(self, ids: Sequence[int], *, follow: bool) -> list[TaskStatus | None]:
        """Ask how tasks stand; None where there is none. With `follow`, `end_of` may wait for those not ended.

        Raises:
            RequestRefused: the server will not say.
        """
        statuses: list[TaskStatus | None] = []
        if follow:
            self._watches.begin(ids)
        for first in range(0, len(ids), MOST_QUERIED):
            statuses += await self._query(ids[first : first + MOST_QUERIED], notify=follow)
        return statuses

    def has_ended(self, task_id: int) -> bool:
        """Whether `end_of` would answer at once."""
        return self._watches.has_ended(task_id)

    async def end_of(self, task_id: int) -> TaskFinished:
        """Wait until a followed task has ended, and say how; once."""
        end = await self._watches[task_id].ended()
        self._watches.drop(task_id)
        return end

    async def _query(self, ids: Sequence[int], *, notify: bool, updates: bool = False) -> list[TaskStatus | None]:
        try:
            answer = await self._ask(Query(self._take_ref(), list(ids), notify=notify, updates=updates))
        except RequestRefused as refusal:
            if refusal.code != ErrorCode.RESPONSE_TOO_LARGE or len(ids) == 1:
                raise
            half = len(ids) // 2
            return [
                *await self._query(ids[:half], notify=notify, updates=updates),
                *await self._query(ids[half:], notify=notify, updates=updates),
            ]
        assert isinstance(answer, QueryResponse)
        for task_id, status in zip(ids, answer.tasks, strict=True):
            self._watches.hear_status(task_id, status)
        return answer.tasks

    def _take_ref(self) -> int:
        self._next_ref += 1
        return self._next_ref

    async def _ask(self, message: Question) -> Answer:
        if self._over is not None:
            raise self._over.with_traceback(None)
        request = self._requests[message.ref] = Request(message)
        if self._outgoing is not None:
            self._outgoing.put([message])
        try:
            return await request.answered()
        finally:
            self._requests.pop(message.ref, None)

    def _end(self, error: DtmError) -> None:
        """Tell everybody who waits that nothing more will come."""
        self._over = self._over or error
        for request in self._requests.values():
            request.fail(error)
        self._watches.fail(error)

    async def _stay_connected(self, link: Link) -> None:
        try:
            while True:
                try:
                    await self._serve(link)
                except LinkLost as error:
                    self._on_trouble(str(error))
                link = await self._connect_again()
        except* NotAdmitted as errors:
            self._end(NotAdmitted(str(errors.exceptions[0])))
            raise

    async def _connect_again(self) -> Link:
        while True:
            self._failures += 1
            await anyio.sleep(BACKOFF.delay_s(self._failures, self._chance.random()))
            try:
                return await Link.open(self._host, self._port, self._connect)
            except Unreachable as error:
                self._on_trouble(str(error))

    async def _serve(self, link: Link) -> None:
        outgoing = self._outgoing = Outgoing()
        self._put_off, self._has_put_off = [], Event()
        # In their order, so that what was asked for first is done first.
        outgoing.put([request.message for request in self._requests.values()])
        lost = "the connection broke"
        try:
            async with create_task_group() as group:
                group.start_soon(outgoing.send_over, link)
                group.start_soon(partial(ping_forever, link, outgoing, interval_s=PING_INTERVAL_S, timeout_s=SILENCE_S))
                self._watches.ask_again()
                group.start_soon(self._ask_for_watched)
                group.start_soon(self._repeat_what_was_put_off, outgoing)
                await link.listen(self._hear_all)
        except* LinkLost as errors:
            lost = str(errors.exceptions[0])
        finally:
            self._outgoing = None
            await link.close()
        raise LinkLost(lost)

    async def _ask_for_watched(self) -> None:
        while True:
            plain, with_updates = await self._watches.unasked()
            for ids, updates in ((plain, False), (with_updates, True)):
                for first in range(0, len(ids), MOST_QUERIED):
                    await self._ask_of(ids[first : first + MOST_QUERIED], updates=updates)

    async def _ask_of(self, ids: list[int], *, updates: bool) -> None:
        try:
            await self._query(ids, notify=True, updates=updates)
        except RequestRefused as refusal:
            self._watches.fail(refusal, ids)
        except Closed:
            pass  # whoever wanted to know has left

    async def _repeat_what_was_put_off(self, outgoing: Outgoing) -> None:
        while True:
            await self._has_put_off.wait()
            self._has_put_off = Event()
            self._refusals += 1
            await anyio.sleep(BACKOFF.delay_s(self._refusals, self._chance.random()))
            put_off, self._put_off = self._put_off, []
            outgoing.put([self._requests[ref].message for ref in put_off if ref in self._requests])

    def _hear_all(self, messages: Iterable[ServerMessage]) -> None:
        for message in messages:
            self._hear(message)
        self._failures = 0

    def _hear(self, message: ServerMessage) -> None:
        match message:
            case TaskFinished() | TaskUpdate():
                self._watches.hear(message)
            case SubmitResponse() | QueryResponse() | CancelResponse():
                self._answer(message.ref, message)
            case Error(code=code) if code in REFUSES_CLIENT:
                raise NotAdmitted(f"the server refused this client: {message.message} ({code})")
            case Error(code=ErrorCode.SHUTTING_DOWN) if message.ref is not UNSET:
                pass  # it took nothing; the next server is asked again
            case Error(code=code) if message.ref is not UNSET and code != ErrorCode.TOO_MANY_CONNECTIONS:
                if code in PASSING:
                    self._on_trouble(f"{message.message} ({code})")
                    self._put_off.append(message.ref)
                    self._has_put_off.set()
                else:
                    self._answer(message.ref, message)
            case Error():
                raise LinkLost(f"{message.message} ({message.code})")

    def _answer(self, ref: int, answer: Answer | Error) -> None:
        self._refusals = 0
        request = self._requests.get(ref)
        if request is None:
            return
        if not fits(answer, request.message):
            raise LinkLost(f"the server answered request {ref} as if it had been another")
        if isinstance(answer, SubmitResponse) and isinstance(request.message, Submit) and request.message.notify:
            self._watches.begin(answer.ids)
        request.answer(answer)
