"""Many submissions at once: in order, checked, in a bounded amount of memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import dtm
from dtm.protocol.messages import Submit
from dtm.tasks.many import MOST_PARTS, MOST_TASKS
from tests.server.live import Live, serving
from tests.tasks.staff import point, staffed
from tests.tasks.tasks_app import Size, app, area, greet
from tests.waiting import LONG_S


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Live]:
    """A server without any worker, and the app open."""
    async with serving(tmp_path) as live:
        point(app, live.port)
        async with app:
            yield live


async def test_each_item_is_a_call(tmp_path: Path) -> None:
    """A tuple, a dict, the only argument, or a call that type checkers can read; the jobs come in their order."""
    items = [(Size(1), 2), {"size": Size(3)}, Size(4), area.args(Size(5), factor=3)]
    async with staffed(tmp_path, app):
        jobs = await area.submit_many(items)

        assert [await job.result(LONG_S) for job in jobs] == [2, 3, 4, 15]
        assert (len(jobs), list(jobs.ids)) == (4, [job.id for job in jobs])
        assert [job.id for job in jobs[1:3]] == [jobs[1].id, jobs[2].id]


async def test_items_may_come_asynchronously(idle: Live) -> None:
    """More of them than one submission holds; none at all is well too."""

    async def names() -> AsyncIterator[str]:
        for number in range(2 * MOST_TASKS + 1):
            yield f"n{number}"

    jobs = await greet.submit_many(names())
    with idle.reader() as reader:
        stored = {task.id: task.payload for task in reader.newest_tasks(state=None, kind=None, limit=10_000)}

    assert [stored[id] for id in jobs.ids] == [f'{{"name":"n{number}"}}' for number in range(2 * MOST_TASKS + 1)]
    assert len(await greet.submit_many([])) == 0


async def test_a_key_is_completed_by_each_number(idle: Live) -> None:
    """So that the whole can be submitted again and nothing is there twice."""
    keyed = greet.options(key="names")
    first = await keyed.submit_many(["a", "b"])
    again = await keyed.submit_many(["a", "b", "c"])

    assert list(again.ids[:2]) == list(first.ids)
    assert idle.history(again.ids[2]).task.key == "names-3"


async def test_an_item_that_does_not_fit_is_named(idle: Live) -> None:
    """What was submitted before it is told, and nothing after it is."""

    def items() -> Iterator[Any]:
        yield from (f"n{number}" for number in range(MOST_TASKS + 5))
        yield 7

    with pytest.raises(dtm.BadArguments) as caught:
        await greet.submit_many(items())
    with idle.reader() as reader:
        stored = len(reader.newest_tasks(state=None, kind=None, limit=10_000))

    assert str(caught.value).startswith("item 1,006: greet: parameter 'name': expected `str`, got `int`; found 7; ")
    assert str(caught.value).endswith("the 1,000 items before the part with it are submitted")
    assert stored == MOST_TASKS


async def test_what_the_items_raise_passes(idle: Live) -> None:
    """As it is."""

    def items() -> Iterator[str]:
        yield "a"
        raise KeyError("their own")

    with pytest.raises(KeyError, match="their own"):
        await greet.submit_many(items())


async def test_only_so_many_are_on_their_way(idle: Live) -> None:
    """The items are fetched as they are sent: never more than the parts that may wait for their answers."""
    fetched = 0
    ahead: list[int] = []

    def acknowledged() -> int:
        unanswered = [request.message for request in app.producer._requests.values()]
        return fetched - sum(len(message.tasks) for message in unanswered if isinstance(message, Submit))

    def items() -> Iterator[str]:
        nonlocal fetched
        for _ in range(2 * MOST_PARTS * MOST_TASKS):
            fetched += 1
            ahead.append(fetched - acknowledged())
            yield "x"

    jobs = await greet.submit_many(items())

    assert len(jobs) == 2 * MOST_PARTS * MOST_TASKS
    assert 1 <= max(ahead) <= MOST_PARTS * MOST_TASKS
