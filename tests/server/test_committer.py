"""Group commit, on a real store: what goes together, what waits, and what ends it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, move_on_after, to_thread, wait_all_tasks_blocked
from structlog.testing import capture_logs

from dtm.protocol.codec import ErrorCode
from dtm.server.clock import Clock
from dtm.server.committer import MAX_OPEN_BYTES, Committer
from dtm.server.limits import Limits
from dtm.server.openbatch import OpenBatch
from dtm.server.roster import Member, Roster
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Clear, Departure, NewTask, Registration, Report, Selection, Submission, Success, Why
from dtm.storage.errors import StoreFailed
from dtm.storage.receipt import Cause, Receipt, Refused, Registered, Resolved, Submitted
from dtm.storage.store import Store
from tests.server.stores import Silence, locked, opened, rename_table
from tests.waiting import eventually


class Scene:
    """A committer at work, and every batch that it has delivered."""

    def __init__(self, store: Store, db: Path, limits: Limits) -> None:
        self.store = store
        self.db = db
        self.roster = Roster()
        self.committer = committer_on(store, self.roster, limits)
        self.delivered: list[tuple[OpenBatch, Receipt]] = []
        self.answers: list[Submitted | Refused] = []

    def submit(self, *payloads: str) -> None:
        """Submit tasks; their answer goes to `answers`."""
        self.committer.submit(Submission(tuple(NewTask("A", payload) for payload in payloads)), self.answers.append)

    def deliver(self, taken: OpenBatch, receipt: Receipt) -> None:
        """Answer the submissions, as the server does."""
        for answer, then in zip(receipt.submissions, taken.on_submitted, strict=True):
            then(answer)
        for task in receipt.assigned:
            member = self.roster.find(task.client_id)
            assert member is not None
            member.held.add(task.assignment_id)
        self.delivered.append((taken, receipt))


def committer_on(store: Store, roster: Roster, limits: Limits) -> Committer:
    """Make a committer that runs on this machine."""
    clock = Clock.start(time.time_ns, time.monotonic)
    return Committer(store, roster, clock, in_order=to_thread.run_sync, limits=limits)


@asynccontextmanager
async def committing(folder: Path, **limits: Any) -> AsyncIterator[Scene]:
    """Let a committer work on the store in `folder`."""
    with opened(folder) as store:
        store.wait_for_lock(0.01)
        scene = Scene(store, folder / "tasks.db", Limits(**limits))
        async with create_task_group() as group:
            group.start_soon(scene.committer.run, scene.deliver)
            yield scene
            group.cancel_scope.cancel()


async def test_what_comes_while_a_batch_is_on_its_way_shares_the_next_one(tmp_path: Path) -> None:
    """However much it is; nothing is answered before its own commit."""
    async with committing(tmp_path) as scene:
        with locked(scene.db):
            scene.submit("1")
            await eventually(lambda: scene.committer._in_flight)
            for number in range(2, 50):
                scene.submit(str(number))
            assert scene.answers == []
        await scene.committer.idle()

        assert [len(taken.batch.submissions) for taken, _ in scene.delivered] == [1, 48]
        assert [answer.ids for answer in scene.answers if isinstance(answer, Submitted)] == [[n] for n in range(1, 50)]


async def test_a_lone_submission_does_not_wait_for_others(tmp_path: Path) -> None:
    """There is no timer: one fsync after it came it is answered."""
    async with committing(tmp_path) as scene:
        scene.submit("1")
        await scene.committer.idle()
        scene.submit("2")
        await scene.committer.idle()

        assert [len(taken.batch.submissions) for taken, _ in scene.delivered] == [1, 1]


async def test_a_wake_up_commits_although_nothing_came(tmp_path: Path) -> None:
    """A client has room again, or a task falls due."""
    async with committing(tmp_path) as scene:
        scene.committer.wake()
        await scene.committer.idle()

        assert len(scene.delivered) == 1


async def test_a_submission_meets_a_free_client_in_one_commit(tmp_path: Path) -> None:
    """Inserted and assigned by the same fsync."""
    async with committing(tmp_path) as scene:
        registered: list[Registered | Refused] = []
        scene.committer.register(Registration("w", "nowhere", ("A",), 1), registered.append)
        await scene.committer.idle()
        ((_, receipt),) = scene.delivered
        (client,) = receipt.registrations
        assert isinstance(client, Registered)
        scene.roster.join(Member(client.client_id, "w", Silence(), kinds=frozenset("A"), capacity=1), 0)
        scene.submit("1", "2")
        await scene.committer.idle()

        assert [task.payload for task in scene.delivered[1][1].assigned] == ["1"]


async def test_more_than_one_transaction_gives_out_follows_by_itself(tmp_path: Path) -> None:
    """A client with room for thousands gets them all, in bounded transactions."""
    async with committing(tmp_path) as scene:
        scene.committer.register(Registration("w", "nowhere", ("A",), 5_000), lambda _: None)
        scene.submit(*["1"] * 5_000)
        await scene.committer.idle()
        member = Member(1, "w", Silence(), kinds=frozenset("A"), capacity=5_000)
        scene.roster.join(member, 0)
        scene.committer.wake()
        await scene.committer.idle()

        assert len(member.held) == 5_000
        assert max(len(receipt.assigned) for _, receipt in scene.delivered) < 5_000


async def test_a_busy_store_is_tried_again_and_nobody_is_refused(tmp_path: Path) -> None:
    """Another program's transaction is only latency, as long as it does not take too long."""
    async with committing(tmp_path) as scene:
        with capture_logs() as events, locked(scene.db):
            scene.submit("1")
            await anyio.sleep(0.3)
            assert scene.answers == []
        await scene.committer.idle()

        assert scene.answers == [Submitted([1], [])]
        assert events == []


async def test_a_store_that_is_busy_for_too_long_refuses_requests_and_keeps_what_happened(tmp_path: Path) -> None:
    """None of what was refused is ever done; results and departures are, once the store is free; all of it is told."""
    async with committing(tmp_path, busy_timeout_s=0.2) as scene:
        registered: list[Registered | Refused] = []
        resolved: list[Resolved | Refused] = []
        scene.submit("before")
        scene.committer.register(Registration("w", "nowhere", ("A",), 1), registered.append)
        await scene.committer.idle()
        scene.roster.join(Member(1, "w", Silence(), kinds=frozenset("A"), capacity=1), 0)
        scene.committer.wake()
        await scene.committer.idle()
        ((assigned,),) = [receipt.assigned for _, receipt in scene.delivered if receipt.assigned]
        del scene.answers[:], registered[:]
        with capture_logs() as events:
            with locked(scene.db):
                scene.submit("in flight")
                await eventually(lambda: scene.committer._in_flight)
                scene.submit("open")
                scene.committer.register(Registration("v", "nowhere", ("A",), 1), registered.append)
                scene.committer.command(Clear(Selection(everything=True), 1), resolved.append)
                scene.committer.report(Report(1, assigned.task_id, assigned.assignment_id, Success("1")), Silence())
                await eventually(lambda: scene.committer.is_blocked)
                with pytest.raises(Unacceptable, match="write lock; ask again later") as refusal:
                    scene.committer.require_room()
                scene.committer.depart(Departure(1, Why.SILENT))
            await eventually(lambda: not scene.committer.is_blocked)
            await scene.committer.idle()
        scene.committer.require_room()

        refused = [*scene.answers, *registered, *resolved]
        assert [answer.cause for answer in refused if isinstance(answer, Refused)] == [Cause.BUSY] * 4
        assert len(refused) == 4
        assert refusal.value.code is ErrorCode.STORE_BUSY
        with closing(sqlite3.connect(scene.db)) as reader:
            assert reader.execute("SELECT payload, state FROM tasks").fetchall() == [("before", "completed")]
            assert reader.execute("SELECT name, why FROM clients").fetchall() == [("w", "silent")]
        assert [event["event"] for event in events] == ["store.busy", "store.free"]
        assert scene.committer._open.size == 0


async def test_requests_that_wait_are_bounded(tmp_path: Path) -> None:
    """Whoever adds to a batch that is half full is to wait; the one above the bound is refused."""
    async with committing(tmp_path, max_waiting=4) as scene:
        with locked(scene.db):
            scene.submit("1")
            await eventually(lambda: scene.committer._in_flight)
            found = []
            for _ in range(4):
                scene.committer.require_room()
                scene.submit("1")
                found.append(scene.committer.is_full)
            with pytest.raises(Unacceptable, match="too many requests wait for the disk") as refusal:
                scene.committer.require_room()
        await scene.committer.idle()
        scene.committer.require_room()

        assert found == [False, False, True, True]
        assert refusal.value.code is ErrorCode.OVERLOADED
        assert scene.answers == [Submitted([id], []) for id in range(1, 6)]


async def test_bytes_that_wait_are_bounded(tmp_path: Path) -> None:
    """However few the requests are."""
    async with committing(tmp_path) as scene:
        with locked(scene.db):
            scene.submit("1")
            await eventually(lambda: scene.committer._in_flight)
            for _ in range(4):
                scene.committer.require_room()
                scene.submit("x" * (MAX_OPEN_BYTES // 2))
            with pytest.raises(Unacceptable, match="too many requests wait for the disk"):
                scene.committer.require_room()


async def test_a_failed_store_ends_the_committer_and_answers_nobody(tmp_path: Path) -> None:
    """Yes and no would both be guesses."""
    answers: list[Submitted | Refused] = []

    async def fail() -> None:
        async with committing(tmp_path) as scene:
            scene.answers = answers
            rename_table(scene.db, "activity", "gone")
            scene.submit("1")
            await scene.committer.delivered()

    with pytest.raises(ExceptionGroup) as failed:
        await fail()

    assert failed.group_contains(StoreFailed)
    assert answers == []


async def test_a_full_batch_takes_no_more_until_it_is_on_its_way(tmp_path: Path) -> None:
    """So that memory is bounded while the disk is slow."""
    async with committing(tmp_path) as scene:
        big = "x" * (MAX_OPEN_BYTES // 4)
        await scene.committer.room()
        with locked(scene.db):
            scene.submit("1")
            await eventually(lambda: scene.committer._in_flight)
            for _ in range(4):
                await scene.committer.room()
                scene.submit(big)
            with move_on_after(0.05) as patience:
                await scene.committer.room()
            assert patience.cancelled_caught
        await scene.committer.room()

        assert not scene.committer.is_full
        await scene.committer.idle()
        assert len(scene.answers) == 5


async def test_many_small_items_fill_a_batch_too(tmp_path: Path) -> None:
    """They take memory besides their payloads."""
    with opened(tmp_path) as store:
        committer = committer_on(store, Roster(), Limits())
        count = 0
        while not committer.is_full:
            committer.submit(Submission((NewTask("A", "1"),) * 1_000), lambda _: None)
            count += 1_000

    assert count < 50_000


async def test_whoever_has_caught_up_has_been_answered(tmp_path: Path) -> None:
    """What is on its way and what waits behind it; if there is nothing, at once."""
    async with committing(tmp_path) as scene, create_task_group() as group:
        answered: list[int] = []

        async def catch_up() -> None:
            await scene.committer.caught_up()
            answered.append(len(scene.answers))

        await catch_up()
        with locked(scene.db):
            scene.submit("1")
            await eventually(lambda: scene.committer._in_flight)
            scene.submit("2")
            group.start_soon(catch_up)
            await wait_all_tasks_blocked()
            assert answered == [0]
        await eventually(lambda: answered == [0, 2])
