"""The store against a model of it: whatever happens in whatever order, both say the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dtm.storage.batch import (
    DEATHS,
    Batch,
    Cancellation,
    Clear,
    Failed,
    NewTask,
    Released,
    Report,
    Reprocess,
    Selection,
    Submission,
    Success,
    Why,
)
from dtm.storage.receipt import Cancelled, Cause, Refused, Registered, Resolved, Submitted, Verdict
from tests.storage.model import BACKOFF_S, SNOOZE_S, Model, ModelAttempt, ModelTask
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, NOON, OK, SECOND, UNBEGUN, Stage, open_store, what_is_wrong

KINDS = ("add", "mul")
NAMES = ("w1", "w2", "w3")
OUTCOMES: dict[str, Success | Failed | Released] = {
    "completed": OK,
    "failed": FAILED,
    "rejected": HOPELESS,
    "released": UNBEGUN,
    "snoozed": Released(delay=SNOOZE_S * SECOND),
}

kinds = st.sets(st.sampled_from(KINDS), min_size=1)
limits = st.integers(1, 3)
tasks = st.builds(
    ModelTask,
    kind=st.sampled_from(KINDS),
    payload=st.sampled_from(["1", "2"]),
    priority=st.integers(-1, 1),
    max_retries=st.sampled_from([1, 1, 2, 3]),
    key=st.none() | st.sampled_from(["k1", "k2"]),
    timeout=st.sampled_from([None, None, None, 5, 25]),
    unique=st.sampled_from([None, None, "u"]),
    # From now on; a task that is taken knows the instant.
    expires_at=st.sampled_from([None, None, None, 5, 25]),
)
delays = st.sampled_from([0, 0, 0, 5, 15])


def new(task: ModelTask, delay: int) -> NewTask:
    """Give the task as a submitter writes it."""
    return NewTask(
        task.kind,
        task.payload,
        task.key,
        priority=task.priority,
        delay=delay * SECOND,
        max_retries=task.max_retries,
        timeout=None if task.timeout is None else task.timeout * SECOND,
        expires=None if task.expires_at is None else task.expires_at * SECOND,
        unique=task.unique,
    )


class StoreAndModel(RuleBasedStateMachine):
    """Everything is done to both; the answers and, after each step, the contents are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="dtm-model-"))
        self.stage = Stage(self.folder / "tasks.db")
        self.model = Model()

    def teardown(self) -> None:
        """Take everything away."""
        self.stage.close()
        shutil.rmtree(self.folder)

    # Who comes and goes.

    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        """A client comes."""
        assert self.stage.join(name) == Registered(self.model.join(name))

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """A client comes back and names what it holds, and more; or it takes another's name."""
        id = self._live(data)
        others = data.draw(st.lists(st.integers(0, self.model.attempts_ever), unique=True, max_size=3))
        named = list(dict.fromkeys([*others, id]))
        own = self.model.names[self.model.attempts[id].client]
        name = data.draw(st.sampled_from([own, own, *NAMES]))
        back = self.stage.join(name, resume=named)
        client, resumed = self.model.resume(name, named)

        assert back.client_id == client
        assert [id for id, _ in back.resumed] == sorted(resumed)
        assert back.lost == tuple(id for id in named if id not in resumed)

    @rule(why=st.sampled_from(Why), data=st.data())
    def leave(self, why: Why, data: st.DataObject) -> None:
        """A client goes, in peace or not."""
        client = data.draw(st.sampled_from([self.model.attempts[self._live(data)].client, *self.model.present]))
        receipt = self.stage.leave(client, why)
        self.model.leave(client, is_death=why in DEATHS)

        assert [left.client_id for left in receipt.left] == [client]

    # Work.

    @rule(wanted=st.lists(st.tuples(tasks, delays), min_size=1, max_size=3))
    def submit(self, wanted: list[tuple[ModelTask, int]]) -> None:
        """Tasks come in, each in a submission of its own, all in one batch."""
        receipt = self.stage.apply(Batch(submissions=[Submission((new(*one),)) for one in wanted]))

        for (task, delay), answer in zip(wanted, receipt.submissions, strict=True):
            expected = self.model.submit(self._from_now(task), delay)
            if expected is None:
                assert isinstance(answer, Refused)
                assert answer.cause is Cause.KEY_CONFLICT
            else:
                id, is_duplicate = expected
                assert answer == Submitted([id], [id] if is_duplicate else [])

    @rule(wanted=st.lists(st.lists(st.tuples(tasks, delays), min_size=1, max_size=3), min_size=2, max_size=3))
    def submit_together(self, wanted: list[list[tuple[ModelTask, int]]]) -> None:
        """Several submissions of several tasks come in, in one batch: of each all or none."""
        submissions = [Submission(tuple(new(*one) for one in together)) for together in wanted]
        answers = self.stage.apply(Batch(submissions=submissions)).submissions

        for together, answer in zip(wanted, answers, strict=True):
            expected = self.model.submit_together([(self._from_now(task), delay) for task, delay in together])
            if expected is None:
                assert isinstance(answer, Refused)
                assert answer.cause is Cause.KEY_CONFLICT
            else:
                assert answer == Submitted(*expected)

    def _from_now(self, task: ModelTask) -> ModelTask:
        return replace(task, expires_at=None if task.expires_at is None else self.model.now + task.expires_at)

    @rule(kinds=kinds, free=st.integers(1, 4), data=st.data())
    def give(self, kinds: set[str], free: int, data: st.DataObject) -> None:
        """A client gets tasks."""
        client = data.draw(st.sampled_from(self._present()))
        assigned = self.stage.give(client, *kinds, free=free)
        self.model.let_time_act()

        assert [(one.assignment_id, one.task_id) for one in assigned] == self.model.give(client, kinds, free)
        assert {one.client_id for one in assigned} <= {client}

    @rule(outcome=st.sampled_from(sorted(OUTCOMES)), data=st.data())
    def finish(self, outcome: str, data: st.DataObject) -> None:
        """A client says how its task went."""
        id = self._live(data)
        attempt = self.model.attempts[id]
        self._report([(attempt.client, attempt.task, id, outcome)])

    @rule(outcomes=st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=3), data=st.data())
    def say_anything(self, outcomes: list[str], data: st.DataObject) -> None:
        """Clients say all sorts of things in one batch: right, late, again, and about what is not theirs."""
        self._live(data)
        said = []
        for outcome in outcomes:
            id = data.draw(st.sampled_from([*self.model.attempts, self.model.attempts_ever + 1]))
            attempt = self.model.attempts.get(id, ModelAttempt(0, 1))
            client = data.draw(st.sampled_from([attempt.client, attempt.client, *self.model.names]))
            task = data.draw(st.sampled_from([attempt.task] * 4 + [*self.model.tasks]))
            said.append((client, task, id, outcome))
        self._report(said)

    def _report(self, said: list[tuple[int, int, int, str]]) -> None:
        reports = [Report(client, task, id, OUTCOMES[outcome]) for client, task, id, outcome in said]
        verdicts = self.stage.apply(Batch(reports=reports)).reports
        expected = [self.model.report(*one) for one in said]

        assert [isinstance(verdict, Verdict) and verdict.accepted for verdict in verdicts] == expected
        for (_, task, _, _), verdict in zip(said, verdicts, strict=True):
            now = self.model.tasks.get(task)
            assert isinstance(verdict, Verdict)
            assert verdict.state == (now and now.state)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Somebody does not need some tasks any more, and names others as well."""
        known = st.sampled_from([*self.model.tasks, self.model.tasks_ever + 1])
        ids = data.draw(st.lists(known, min_size=1, max_size=3))
        receipt = self.stage.apply(Batch(cancellations=[Cancellation(tuple(ids))]))

        assert receipt.cancellations == [Cancelled(self.model.cancel(ids))]
        assert {stopped.task_id for stopped in receipt.stopped} == {
            id for id in ids if id in self.model.tasks and self.model.tasks[id].state == "assigned"
        }

    # An operator.

    @rule(command=st.sampled_from([Reprocess, Reprocess, Clear]), limit=limits, data=st.data())
    def settle(self, command: type[Reprocess | Clear], limit: int, data: st.DataObject) -> None:
        """Some dead letters are settled, or all."""
        if not self.model.letters:
            self.finish("rejected", data)
        everything = frozenset(self.model.tasks)
        some = st.frozensets(st.sampled_from([*self.model.letters, *self.model.tasks]), max_size=4)
        ids = data.draw(st.just(everything) | some)
        selection = Selection(everything=True) if ids == everything else Selection(ids=tuple(ids))
        resolved = self.stage.settle(command(selection, limit))
        expected = self.model.reprocess(ids, limit) if command is Reprocess else self.model.clear(ids, limit)

        assert resolved == Resolved(*expected)

    # Time and trouble.

    @rule(seconds=st.sampled_from([1, 5, 10, 20, 30]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.stage.wait(seconds)
        self.model.now += seconds
        self.model.let_time_act()
        self.stage.apply(Batch())

    @rule()
    def restart(self) -> None:
        """The store is closed and opened."""
        self.stage.reopen()

    @rule()
    def crash(self) -> None:
        """The process ends without closing anything; what it had committed is in the file and its log."""
        files = [self.stage.path, self.stage.path.with_name("tasks.db-wal")]
        left_behind = {path: path.read_bytes() for path in files}
        self.stage.close()
        for path, content in left_behind.items():
            path.write_bytes(content)
        self.stage.store = open_store(self.stage.path)

    # What must be there before something can happen to it.

    def _present(self) -> list[int]:
        if not self.model.present:
            self.join("w1")
        return sorted(self.model.present)

    def _live(self, data: st.DataObject) -> int:
        if not self.model.live:
            self.submit([(ModelTask("add", "1", priority=0, max_retries=2, key=None), 0)])
            self.give(set(KINDS), 4, data)
        return data.draw(st.sampled_from(self.model.live))

    # What holds after each step.

    @invariant()
    def both_have_the_same_tasks(self) -> None:
        """In every field that the model knows."""
        self.model.let_time_act()
        self.stage.apply(Batch())
        found = self.stage.sql(
            "SELECT id, kind, payload, priority, max_retries, key, state, retry_count,"
            " CASE state WHEN 'scheduled' THEN run_at END, assignment_id, unique_key, expires_at, deadline_at,"
            " cancel_requested_at IS NOT NULL FROM tasks ORDER BY id"
        )

        assert found == [
            (
                id,
                task.kind,
                task.payload,
                task.priority,
                task.max_retries,
                task.key,
                task.state,
                task.retry_count,
                _instant(task.run_at) if task.state == "scheduled" else None,
                task.attempt,
                task.unique,
                _instant(task.expires_at),
                _instant(task.deadline),
                task.is_to_stop,
            )
            for id, task in sorted(self.model.tasks.items())
        ]

    @invariant()
    def both_have_the_same_attempts(self) -> None:
        """Who had what, and how it went."""
        found = self.stage.sql("SELECT id, task_id, client_id, outcome FROM assignments ORDER BY id")

        assert found == [
            (id, attempt.task, attempt.client, attempt.outcome) for id, attempt in sorted(self.model.attempts.items())
        ]

    @invariant()
    def both_tell_the_same_of_the_dead(self) -> None:
        """The lines of the log and the letters that are open, both in order."""
        letters = self.stage.sql("SELECT task_id FROM dead_letters WHERE resolved_at IS NULL ORDER BY id")

        assert [(line["event"], line["task"]) for line in self.stage.audit()] == self.model.told
        assert [task for (task,) in letters] == self.model.letters

    @invariant()
    def what_must_always_hold_holds(self) -> None:
        """Books, chain, references, one end a task."""
        assert what_is_wrong(self.stage.path) == {}

    @invariant()
    def the_next_instant_is_right(self) -> None:
        """The store looks no later than something is due or overdue, and not before it has looked last."""
        waiting = [task for task in self.model.tasks.values() if task.state in ("scheduled", "pending")]
        due = [task.run_at for task in waiting if task.state == "scheduled"] + [task.expires_at for task in waiting]
        store = self.stage.store

        _looks_in_time(store.next_due_at, due, self.stage.now)
        _looks_in_time(store.next_deadline_at, [task.deadline for task in self.model.tasks.values()], self.stage.now)


def _instant(seconds: int | None) -> int | None:
    return None if seconds is None else NOON + seconds * SECOND


def _looks_in_time(at: int | None, instants: list[int | None], now: int) -> None:
    coming = [NOON + instant * SECOND for instant in instants if instant is not None]
    assert at is None or at > now
    assert not coming or (at is not None and at <= min(coming))


def test_the_model_waits_as_long_as_the_stage() -> None:
    """Both are told the same rule for the time between two tries."""
    assert BACKOFF_S * SECOND == BACKOFF


TestStoreAndModel = StoreAndModel.TestCase
TestStoreAndModel.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # No shrinking: with a disk under each step it can take longer than a test may (pyproject's faulthandler_timeout).
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
