"""The producer, against a server that a test speaks for, and against a real one behind a bad line."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, create_task_group, fail_after
from anyio.abc import SocketAttribute, SocketStream, TaskGroup, TaskStatus

from dtm.client.link import Unreachable
from dtm.client.producer import BACKOFF, MOST_QUERIED, Producer
from dtm.client.requests import RequestRefused
from dtm.net.stream import connect_tcp
from dtm.protocol.messages import Failure, SubmittedTask, TaskFinished
from tests.client.scripted import Scripted, free_port, listening
from tests.server.live import serving, success
from tests.waiting import eventually
from tests.wire import Line

T = TypeVar("T")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """A server that listens."""
    async with listening() as server:
        yield server


@asynccontextmanager
async def producing(port: int, troubles: list[str] | None = None) -> AsyncIterator[Producer]:
    """Connect a producer."""
    complain: Callable[[str], None] = (lambda _: None) if troubles is None else troubles.append
    async with Producer.open(
        Scripted.host, port, connect=connect_tcp, chance=random.Random(1), on_trouble=complain
    ) as producer:
        yield producer


class Later(Generic[T]):
    """Something that runs beside the test, and what comes of it."""

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: Exception | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Run it."""
        try:
            self.value = await work()
        except RequestRefused as error:
            self.error = error

    async def done(self) -> T:
        """Wait for what comes of it."""
        await eventually(lambda: self.value is not None or self.error is not None)
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


class Requests:
    """Requests that run beside the test."""

    def __init__(self, producer: Producer, group: TaskGroup) -> None:
        self.producer = producer
        self._group = group

    def submit(self, *keys: str, follow: bool = False) -> Later[list[int]]:
        """Submit a task for each key."""
        later: Later[list[int]] = Later()
        tasks = [SubmittedTask("A", key=key) for key in keys]
        self._group.start_soon(later.run, lambda: self.producer.submit(tasks, follow=follow))
        return later

    def query(self, *ids: int, follow: bool = False) -> Later[list[Any]]:
        """Ask for tasks."""
        later: Later[list[Any]] = Later()
        self._group.start_soon(later.run, lambda: self.producer.query(ids, follow=follow))
        return later

    def end_of(self, id: int) -> Later[TaskFinished]:
        """Wait for a task's end."""
        later: Later[TaskFinished] = Later()
        self._group.start_soon(later.run, lambda: self.producer.end_of(id))
        return later


@asynccontextmanager
async def asking(server: Scripted, troubles: list[str] | None = None) -> AsyncIterator[Requests]:
    """Connect a producer, and let its requests run beside the test."""
    async with producing(server.port, troubles) as producer, create_task_group() as group:
        yield Requests(producer, group)
        group.cancel_scope.cancel()


def taken(submit: Line, *ids: int, duplicates: tuple[int, ...] = ()) -> Line:
    """Write the answer to a submission."""
    return {"type": "SubmitResponse", "ref": submit["ref"], "ids": ids, "duplicates": duplicates}


def standing(query: Line, *tasks: Line | None) -> Line:
    """Write the answer to a query."""
    return {"type": "QueryResponse", "ref": query["ref"], "tasks": tasks}


def status(id: int, state: str = "assigned", **fields: Any) -> Line:
    """Write how a task stands."""
    return {"task_id": id, "kind": "A", "state": state, "retry_count": 0, "max_retries": 3, **fields}


def finished(id: int, state: str = "completed", **fields: Any) -> Line:
    """Write the notice of a task's end."""
    return {"type": "TaskFinished", "task_id": id, "state": state, **fields}


def refusal(request: Line, code: str = "refused") -> Line:
    """Write a refusal."""
    return {"type": "Error", "code": code, "message": "no", "ref": request["ref"]}


def keys(submit: Line) -> list[str]:
    """Say which tasks a submission has."""
    return [task["key"] for task in submit["tasks"]]


# Requests and answers.


async def test_nobody_there_is_said_at_once() -> None:
    """A command that was mistyped must not try for ever."""
    with fail_after(5), pytest.raises(Unreachable):
        async with producing(free_port()):
            pass


async def test_answers_find_their_requests_in_any_order(server: Scripted) -> None:
    """By the number of the request."""
    async with asking(server) as ask, server.accept() as wire:
        one, two = ask.submit("a", "b"), ask.submit("c")
        first, second = await wire.expect("Submit", notify=False), await wire.expect("Submit")
        assert (keys(first), keys(second)) == (["a", "b"], ["c"])
        await wire.say(taken(second, 3), taken({"ref": 99}, 9), taken(first, 1, 2))

        assert (await one.done(), await two.done()) == ([1, 2], [3])


@pytest.mark.parametrize("code", ["store-busy", "low-disk", "overloaded"])
async def test_what_is_refused_for_the_moment_is_asked_again(server: Scripted, code: str) -> None:
    """On the same connection, after a pause; others are not concerned, and the user hears of it."""
    troubles: list[str] = []
    async with asking(server, troubles) as requests, server.accept() as wire:
        requests.submit("a")
        first = await wire.expect("Submit")
        later = requests.submit("b")
        second = await wire.expect("Submit")
        asked_s = time.monotonic()
        await wire.say(refusal(first, code), taken(second, 2))
        assert await later.done() == [2]
        again = await wire.expect("Submit")
        await wire.say(refusal(again, code))
        once_more = await wire.expect("Submit")
        await wire.say(taken(once_more, 1))

        assert first == again == once_more
        assert time.monotonic() - asked_s > (BACKOFF.first_s + BACKOFF.first_s) / 2
        assert troubles == [f"no ({code})"] * 2


async def test_a_server_without_a_place_is_asked_later(server: Scripted) -> None:
    """On another connection, with what was asked on the first."""
    troubles: list[str] = []
    async with asking(server, troubles) as requests:
        later = requests.submit("a")
        async with server.accept() as wire:
            first = await wire.expect("Submit")
            await wire.say(refusal(first, "too-many-connections"))
        async with server.accept() as wire:
            again = await wire.expect("Submit")
            await wire.say(taken(again, 1))
            assert await later.done() == [1]
            told = list(troubles)

    assert first == again
    assert told == ["no (too-many-connections)"]


async def test_a_refusal_concerns_its_request_alone(server: Scripted) -> None:
    """With the server's code and words."""
    async with asking(server) as ask, server.accept() as wire:
        one, two = ask.submit("a"), ask.submit("b")
        first, second = await wire.expect("Submit"), await wire.expect("Submit")
        await wire.say(refusal(first, "key-conflict"), taken(second, 2))

        assert await two.done() == [2]
        with pytest.raises(RequestRefused, match=r"^no$") as refused:
            await one.done()
        assert refused.value.code == "key-conflict"


async def test_large_queries_are_asked_in_parts(server: Scripted) -> None:
    """One after the other; the answers come back as one, in order."""
    count = 2 * MOST_QUERIED + 1
    async with asking(server) as ask, server.accept() as wire:
        answer = ask.query(*range(count))
        sizes = []
        for _ in range(3):
            query = await wire.expect("Query", notify=False)
            sizes.append(len(query["ids"]))
            await wire.say(standing(query, *[status(id) for id in query["ids"]]))

        assert [task.task_id for task in await answer.done()] == list(range(count))
        assert sizes == [MOST_QUERIED, MOST_QUERIED, 1]


async def test_an_answer_that_would_be_too_large_is_asked_for_in_halves(server: Scripted) -> None:
    """Down to a single task; one whose own answer is too large is refused."""
    async with asking(server) as ask, server.accept() as wire:
        answer = ask.query(1, 2, 3)
        for ids in ([1, 2, 3], [1], [2, 3], [2], [3]):
            query = await wire.expect("Query", ids=ids)
            if ids in ([1, 2, 3], [2, 3]):
                await wire.say(refusal(query, "response-too-large"))
            else:
                await wire.say(standing(query, status(ids[0])))
        assert [task.task_id for task in await answer.done()] == [1, 2, 3]

        alone = ask.query(7)
        await wire.say(refusal(await wire.expect("Query"), "response-too-large"))
        with pytest.raises(RequestRefused):
            await alone.done()


# Ends.


async def test_the_end_of_a_followed_task_is_told(server: Scripted) -> None:
    """In whatever order they end; a second notice of the same end changes nothing."""
    async with asking(server) as ask, server.accept() as wire:
        ids = ask.submit("a", "b", follow=True)
        submit = await wire.expect("Submit", notify=True)
        await wire.say(taken(submit, 1, 2), finished(2, value=[2]), finished(2, value="again"), finished(9))
        assert await ids.done() == [1, 2]
        first, second = ask.end_of(1), ask.end_of(2)

        assert bytes((await second.done()).value) == b'"again"'  # type: ignore[arg-type]  # it is no UNSET
        await wire.say(finished(1, "dead", error={"type": "E", "message": "m"}))
        end = await first.done()
        assert (end.state, end.error) == ("dead", Failure("E", "m"))
        await wire.say(finished(1), taken({"ref": 99}))
        again = ask.query(5)
        await wire.say(standing(await wire.expect("Query"), status(5)))
        await again.done()
        assert ask.producer._watches._by_id == {}


async def test_a_query_tells_ends_too(server: Scripted) -> None:
    """Of what has ended already, and of what does not exist."""
    async with asking(server) as ask, server.accept() as wire:
        answer = ask.query(1, 2, 3, follow=True)
        query = await wire.expect("Query", ids=[1, 2, 3], notify=True)
        await wire.say(standing(query, status(1, "completed", value=5), None, status(3)))
        await answer.done()
        ends = [ask.end_of(id) for id in (1, 2, 3)]

        assert [(await end.done()).state for end in ends[:2]] == ["completed", "missing"]
        await wire.say(finished(3))
        assert (await ends[2].done()).state == "completed"


# Connections that break.


@pytest.mark.parametrize("heard", ["nothing", "the request", "half an answer"])
async def test_a_request_without_an_answer_is_sent_again(server: Scripted, heard: str) -> None:
    """Wherever the connection broke; with the same keys, so that what was taken is not taken twice."""
    troubles: list[str] = []
    async with asking(server, troubles) as ask:
        async with server.accept() as wire:
            ids = ask.submit("a", "b")
            if heard != "nothing":
                await wire.expect("Submit", ref=2)
            if heard == "half an answer":
                await wire.say_bytes(b'{"type":"SubmitResponse","ref":2,"ids":[1')
        async with server.accept() as wire:
            again = await wire.expect("Submit")
            assert keys(again) == ["a", "b"]
            await wire.say(taken(again, 1, 2, duplicates=(1, 2)))

            assert await ids.done() == [1, 2]
    assert troubles[0] == "the server closed the connection"


async def test_requests_are_sent_again_in_their_order(server: Scripted) -> None:
    """Those that were answered are not; those that came while nobody listened come behind."""
    async with asking(server) as ask:
        async with server.accept() as wire:
            answers = [ask.submit(key) for key in "abc"]
            submits = [await wire.expect("Submit") for _ in "abc"]
            await wire.say(taken(submits[1], 2))
            await answers[1].done()
        answers.append(ask.submit("d"))
        async with server.accept() as wire:
            again = [await wire.expect("Submit") for _ in "acd"]

            assert [keys(submit) for submit in again] == [["a"], ["c"], ["d"]]
            await wire.say(*[taken(submit, id) for submit, id in zip(again, (1, 3, 4), strict=True)])
            assert [await answer.done() for answer in answers] == [[1], [2], [3], [4]]


async def test_a_server_that_shuts_down_is_no_refusal(server: Scripted) -> None:
    """It has taken nothing; the next one is asked again."""
    async with asking(server) as ask:
        async with server.accept() as wire:
            ids = ask.submit("a")
            await wire.say({"type": "ShuttingDown"}, refusal(await wire.expect("Submit"), "shutting-down"))
        async with server.accept() as wire:
            await wire.say(taken(await wire.expect("Submit"), 1))

            assert await ids.done() == [1]


async def test_a_complaint_about_no_request_ends_the_connection(server: Scripted) -> None:
    """Which of the requests it was about nobody knows; they are all sent again."""
    troubles: list[str] = []
    async with asking(server, troubles) as ask:
        async with server.accept() as wire:
            ids = ask.submit("a")
            await wire.expect("Submit")
            await wire.say({"type": "Error", "code": "bad-json", "message": "what?"})
            await wire.hear_all()
        async with server.accept() as wire:
            await wire.say(taken(await wire.expect("Submit"), 1))
            assert await ids.done() == [1]

    assert troubles[0] == "what? (bad-json)"


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: taken(request, 7),
        taken,
        lambda request: standing(request, status(7), None),
    ],
    ids=["too few", "none", "another kind"],
)
async def test_an_answer_to_something_else_ends_the_connection(
    server: Scripted, answer: Callable[[Line], Line]
) -> None:
    """No server gives it; the request is asked again."""
    troubles: list[str] = []
    async with asking(server, troubles) as requests:
        submitted = requests.submit("a", "b")
        async with server.accept() as peer:
            await peer.say(answer(await peer.expect("Submit")))
            await peer.hear_all()
        async with server.accept() as peer:
            await peer.say(taken(await peer.expect("Submit"), 7, 8))
            assert await submitted.done() == [7, 8]

    assert "as if it had been another" in troubles[0]


async def test_tasks_that_nobody_asked_about_are_no_answer(server: Scripted) -> None:
    """Else their ends would be taken for those of others."""
    async with asking(server) as requests:
        asked = requests.query(1, 2)
        async with server.accept() as peer:
            await peer.say(standing(await peer.expect("Query"), status(1), status(3)))
            await peer.hear_all()
        async with server.accept() as peer:
            await peer.say(standing(await peer.expect("Query"), status(1), None))
            assert (await asked.done())[1] is None


async def test_following_survives_a_broken_connection(server: Scripted) -> None:
    """The new connection is asked for what has not ended, and only for that; its answer tells what ended meanwhile."""
    async with asking(server) as ask:
        async with server.accept() as wire:
            ids = ask.submit("a", "b", "c", "d", follow=True)
            await wire.say(taken(await wire.expect("Submit"), 1, 2, 3, 4), finished(1))
            await ids.done()
            ends = {id: ask.end_of(id) for id in (2, 3, 4)}
        async with server.accept() as wire:
            query = await wire.expect("Query", ids=[2, 3, 4], notify=True)
            await wire.say(standing(query, status(2, "completed", value=2), status(3), None), finished(3, "dead"))

            states = [(await end.done()).state for end in (*ends.values(), ask.end_of(1))]
            assert states == ["completed", "dead", "missing", "completed"]


async def test_a_followed_submission_that_was_lost_is_followed_when_it_is_taken(server: Scripted) -> None:
    """Also if the first attempt was taken and the task has ended by now."""
    async with asking(server) as ask:
        async with server.accept() as wire:
            ids = ask.submit("a", follow=True)
            await wire.expect("Submit")
        async with server.accept() as wire:
            again = await wire.expect("Submit", notify=True)
            await wire.say(taken(again, 1, duplicates=(1,)), finished(1, value=1))
            await ids.done()

            assert (await ask.end_of(1).done()).state == "completed"


async def test_it_waits_for_a_server_that_went_away() -> None:
    """With growing pauses; whoever looks on is told why."""
    troubles: list[str] = []
    port = free_port()

    async def listen_once(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with listening(port) as server:
            task_status.started()
            async with server.accept() as wire:
                await wire.expect("Submit")

    async with create_task_group() as group:
        await group.start(listen_once)
        async with producing(port, troubles) as producer, create_task_group() as asking_group:
            ids = Requests(producer, asking_group).submit("a")
            await eventually(lambda: len(troubles) >= 3)
            async with listening(port) as successor, successor.accept() as wire:
                await wire.say(taken(await wire.expect("Submit"), 1))
                assert await ids.done() == [1]

    assert troubles[0] == "the server closed the connection"
    assert all(trouble.startswith("cannot reach") for trouble in troubles[1:3])


async def test_a_query_in_flight_is_asked_again(server: Scripted) -> None:
    """It changes nothing, so that asking twice does no harm."""
    async with asking(server) as ask:
        async with server.accept() as wire:
            answer = ask.query(1)
            await wire.expect("Query")
        async with server.accept() as wire:
            await wire.say(standing(await wire.expect("Query"), status(1)))
            assert [task.state for task in await answer.done()] == ["assigned"]


# A real server behind a bad line.


class BadLine:
    """A proxy that swallows what comes after some bytes, in the midst of whatever they are, and then cuts the line.

    Each line may bear some more than the one before.
    """

    def __init__(self, target: int, chance: random.Random, *, most_bytes: int) -> None:
        self.port = 0
        self.cuts = 0
        self._target = target
        self._chance = chance
        self._most_bytes = most_bytes

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen as long as the context lasts."""
        async with await anyio.create_tcp_listener(local_host=Scripted.host) as listener, create_task_group() as group:
            self.port = listener.extra(SocketAttribute.local_port)
            group.start_soon(listener.serve, self._pass_on)
            yield
            group.cancel_scope.cancel()

    async def _pass_on(self, near: SocketStream) -> None:
        async with near, await anyio.connect_tcp(Scripted.host, self._target) as far, create_task_group() as group:
            for source, sink in ((near, far), (far, near)):
                group.start_soon(self._pump, source, sink, self._chance.randrange(self._most_bytes), group)
                # On a slow machine much is asked for at once, and the longest answer has to get through some day.
                self._most_bytes += 1_000

    async def _pump(self, source: SocketStream, sink: SocketStream, left: int, group: TaskGroup) -> None:
        try:
            while left:
                data = (await source.receive())[:left]
                left -= len(data)
                await sink.send(data)
            self.cuts += 1
            await anyio.sleep(0.02)
        except (EndOfStream, BrokenResourceError, ClosedResourceError):
            pass
        group.cancel_scope.cancel()


async def test_behind_a_bad_line_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    """Each task is taken once and its end told once, in order, however often the connection is cut."""
    count, chance = 150, random.Random(7)
    async with serving(tmp_path, heartbeat_timeout_s=60.0) as live, live.dial() as peer, create_task_group() as group:
        await peer.register("A", capacity=10)

        async def work() -> None:
            while True:
                if (message := await peer.hear())["type"] == "Task":
                    await peer.say(success(message, message["payload"]))

        group.start_soon(work)
        line = BadLine(live.port, chance, most_bytes=6_000)
        async with line.running(), producing(line.port) as producer:
            ids: dict[int, list[int]] = {}

            async def submit(number: int) -> None:
                task = SubmittedTask("A", key=f"key-{number}")
                ids[number] = await producer.submit([task], follow=True)

            async with create_task_group() as submitting:
                for number in range(count):
                    submitting.start_soon(submit, number)
                    await anyio.sleep(0.003)
            with fail_after(30):
                ends = [await producer.end_of(ids[number][0]) for number in range(count)]
        group.cancel_scope.cancel()

        assert line.cuts > 3
        assert [end.state for end in ends] == ["completed"] * count
        assert [end.task_id for end in ends] == [ids[number][0] for number in range(count)]
        with live.reader() as reader:
            stored = reader.newest_tasks(state=None, kind=None, limit=1_000)
        assert sorted(str(task.key) for task in stored) == sorted(f"key-{number}" for number in range(count))
