"""Many submissions of one task: fetched as they are sent, in a bounded amount of memory."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload

import anyio
from anyio import create_task_group

from dtm.client.producer import Producer
from dtm.protocol.messages import SubmittedTask
from dtm.tasks.errors import BadArguments
from dtm.tasks.job import Job

R_co = TypeVar("R_co", covariant=True)

MOST_TASKS = 1_000
MOST_BYTES = 512 * 1024
MOST_PARTS = 8
"""Bounds of one submission, and how many of them are on their way at once."""


class Arguments(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Submitting(Protocol):
    """What is submitted many times."""

    def key(self) -> str:
        """Give a key."""

    def task(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, key: str) -> SubmittedTask:
        """Write a submission."""


class Jobs(Sequence[Job[R_co]], Generic[R_co]):
    """The jobs of many submissions, in their order; it keeps their ids alone."""

    def __init__(self, ids: array[int], job: Callable[[int], Job[R_co]]) -> None:
        self.ids = ids
        self._job = job

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Job[R_co]: ...
    @overload
    def __getitem__(self, index: slice) -> Jobs[R_co]: ...
    def __getitem__(self, index: int | slice) -> Job[R_co] | Jobs[R_co]:
        if isinstance(index, slice):
            return Jobs(self.ids[index], self._job)
        return self._job(self.ids[index])

    def __iter__(self) -> Iterator[Job[R_co]]:
        return map(self._job, self.ids)


async def submit_all(
    producer: Producer, submitting: Submitting, items: Iterable[Any] | AsyncIterable[Any]
) -> array[int]:
    """Submit a task for each of `items`, and give their ids, in order, once all are on the server's disk.

    Raises:
        BadArguments: an item does not fit; those of the parts before its own are submitted.
        RequestRefused: the server does not take a part; others may have been taken.
    """
    ids = array("q")
    parts = anyio.Semaphore(MOST_PARTS)

    async def submit(first: int, part: list[SubmittedTask]) -> None:
        ids[first : first + len(part)] = array("q", await producer.submit_in_parts(part, follow=False))
        parts.release()

    wrong: BadArguments | None = None
    try:
        async with create_task_group() as group:
            try:
                async for part in _parts(submitting, items):
                    await parts.acquire()
                    first = len(ids)
                    ids.extend([0] * len(part))
                    group.start_soon(submit, first, part)
            except BadArguments as error:
                wrong = error
    except ExceptionGroup as errors:
        raise _first(errors) from None
    if wrong is not None:
        raise BadArguments(f"{wrong}; the {len(ids):,} items before the part with it are submitted") from wrong
    return ids


async def _parts(
    submitting: Submitting, items: Iterable[Any] | AsyncIterable[Any]
) -> AsyncIterator[list[SubmittedTask]]:
    part: list[SubmittedTask] = []
    number, size, key = 0, 0, submitting.key()
    async for item in _each(items):
        number += 1
        args, kwargs = _arguments(item)
        try:
            task = submitting.task(args, kwargs, key=f"{key}-{number}")
        except BadArguments as error:
            raise BadArguments(f"item {number:,}: {error}") from error
        part.append(task)
        size += len(bytes(task.payload))
        if len(part) >= MOST_TASKS or size >= MOST_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _arguments(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match item:
        case Arguments(args, kwargs):
            return args, kwargs
        case tuple():
            return item, {}
        case dict():
            return (), item
        case _:
            return (item,), {}


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
