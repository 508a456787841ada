"""A producer's part of a connection, where the wire does not show what happens: what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Raw

from dtm.protocol.messages import Query, Register, Result, Submit, SubmittedTask
from dtm.server.hub import Hub
from dtm.server.membership import Membership
from dtm.server.requests import Requests
from tests.server.stores import Silence, hub_on, settle


def waited_for(hub: Hub) -> set[int]:
    """Say which tasks somebody waits for."""
    return set(hub.watchers._by_task)


async def run_one(hub: Hub) -> None:
    """Let a worker come, complete one task, and go on holding what else there is."""
    membership = Membership(hub, outlet=Silence(), address="nowhere")
    membership.register(Register("w", ["A"], 9))
    await settle(hub)
    await settle(hub)
    membership.result(Result(1, 1, ok=True, value=Raw(b"5")))
    await settle(hub)


async def submit(hub: Hub, requests: Requests, *keys: str, notify: bool) -> None:
    """Submit a task for each key."""
    requests.submit(Submit(1, [SubmittedTask("A", key=key) for key in keys], notify=notify))
    await settle(hub)


async def test_a_producer_that_leaves_is_forgotten(tmp_path: Path) -> None:
    """A server that runs for a year has seen many."""
    async with hub_on(tmp_path) as hub:
        requests = Requests(hub, outlet=Silence())
        await submit(hub, requests, "a", "b", notify=True)
        assert waited_for(hub) == {1, 2}
        requests.leave()

        assert waited_for(hub) == set()


async def test_a_producer_that_left_before_the_answer_is_not_remembered(tmp_path: Path) -> None:
    """Nobody would ever forget it."""
    async with hub_on(tmp_path) as hub:
        requests = Requests(hub, outlet=Silence())
        requests.submit(Submit(1, [SubmittedTask("A")], notify=True))
        requests.leave()
        await settle(hub)

        assert waited_for(hub) == set()


@pytest.mark.parametrize("notify", [True, False])
async def test_only_what_has_not_ended_is_waited_for(tmp_path: Path, notify: bool) -> None:  # noqa: FBT001
    """Of the tasks of a query; and none if nobody asked to be notified."""
    async with hub_on(tmp_path) as hub:
        requests = Requests(hub, outlet=Silence())
        await submit(hub, requests, "a", "b", notify=False)
        await run_one(hub)
        await requests.query(Query(1, [1, 2, 99], notify=notify))

        assert waited_for(hub) == ({2} if notify else set())


async def test_an_end_is_no_longer_waited_for(tmp_path: Path) -> None:
    """It was told."""
    async with hub_on(tmp_path) as hub:
        requests = Requests(hub, outlet=Silence())
        await submit(hub, requests, "a", "b", notify=True)
        await run_one(hub)

        assert waited_for(hub) == {2}


async def test_a_known_key_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    """It will not end again by itself."""
    async with hub_on(tmp_path) as hub:
        requests = Requests(hub, outlet=Silence())
        await submit(hub, requests, "a", "b", notify=False)
        await run_one(hub)
        await submit(hub, requests, "a", "b", notify=True)
        await requests.query(Query(1, []))

    assert waited_for(hub) == {2}
