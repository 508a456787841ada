"""Group commit, on a real store: what goes together, what waits, and what ends it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio import create_task_group, move_on_after, to_thread, wait_all_tasks_blocked
from structlog.testing import capture_logs

from dtm.server.clock import Clock
from dtm.server.committer import MAX_OPEN_BYTES, Committer, OpenBatch
from dtm.server.roster import Member, Roster
from dtm.storage.batch import NewTask, Registration, Submission
from dtm.storage.errors import StoreFailed
from dtm.storage.receipt import Receipt, Refused, Registered, Submitted
from dtm.storage.store import Store
from tests.server.stores import Silence, locked, opened, rename_table
from tests.waiting import eventually


class Scene:
    """A committer at work, and every batch that it has delivered."""

    def __init__(self, store: Store, db: Path) -> None:
        self.store = store
        self.db = db
        self.roster = Roster()
        self.committer = Committer(
            store, self.roster, Clock.start(time.time_ns, time.monotonic), in_thread=to_thread.run_sync
        )
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


@asynccontextmanager
async def committing(folder: Path) -> AsyncIterator[Scene]:
    """Let a committer work on the store in `folder`."""
    with opened(folder) as store:
        scene = Scene(store, folder / "tasks.db")
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
    """Another program's transaction is only latency; it is told."""
    async with committing(tmp_path) as scene:
        scene.store._connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        scene.store._connection.commit()
        with capture_logs() as events, locked(scene.db):
            scene.submit("1")
            await eventually(lambda: [event for event in events if event["event"] == "store.busy"][2:])
            assert scene.answers == []
        await scene.committer.idle()

        assert scene.answers == [Submitted([1], [])]


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
        committer = Committer(store, Roster(), Clock.start(time.time_ns, time.monotonic), in_thread=to_thread.run_sync)
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
