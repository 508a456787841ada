"""Submissions: each becomes new tasks, or is refused whole; a key that is known gives the task it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import Insert, Subquery, bindparam, insert, literal_column, select

from dtm.core.lifecycle import State
from dtm.storage import terms
from dtm.storage.batch import NewTask, Submission
from dtm.storage.receipt import Cause, Refused, Submitted
from dtm.storage.schema import tasks
from dtm.storage.sql import Value, among, given, given_one, is_long, values
from dtm.storage.terms import Terms
from dtm.storage.transaction import Transaction


class Fresh(Struct, array_like=True, gc=False):
    """A task that was taken and is not in the table yet; its fields are its row's."""

    id: int
    kind: str
    payload: str
    priority: int
    state: State
    key: str | None
    max_retries: int
    timeout: int | None
    run_at: int | None
    assignment_id: int | None = None


_COLUMNS = Fresh.__struct_fields__
_ITS_OWN = ("id", "payload", "key")
_COMMON = tuple(name for name in _COLUMNS if name not in _ITS_OWN)
_common = attrgetter(*_COMMON)  # the kind comes first


class Taken(Struct, frozen=True):
    """What a transaction has taken: every task's row, and the terms of those that have any."""

    fresh: Sequence[Fresh]
    terms: Sequence[Terms]


_NOTHING = Taken((), ())


def _insert(rows: Subquery) -> Insert:
    return insert(tasks).from_select(
        [*rows.c.keys(), "retry_count", "created_at"],
        select(*rows.c, literal_column("0"), bindparam("now")),
    )


def _insert_alike(own: Sequence[str]) -> Insert:
    common: Iterator[Any] = (bindparam(name).label(name) for name in _COLUMNS if name not in own)
    return _insert(select(given(*own), *common).subquery("given"))


_INSERT = _insert(given(*_COLUMNS))
# Most tasks that come together differ in nothing else, or in their kinds only, and each column of a given row costs
# time.
_INSERT_ALIKE = _insert_alike(_ITS_OWN)
_INSERT_ALIKE_BUT_KIND = _insert_alike((*_ITS_OWN, "kind"))
_INSERT_ONE = _insert(given_one(*_COLUMNS))
_BY_KEY = select(tasks.c.key, tasks.c.id, tasks.c.kind, tasks.c.payload).where(among(tasks.c.key, "keys"))


class _Known(Struct, frozen=True):
    id: int
    kind: str
    payload: str


class _Names:
    """What makes a task the same as another: its key for ever, its unique key while the other is active."""

    def __init__(self, keys: dict[str, _Known], twins: dict[tuple[str, str], int]) -> None:
        self._keys = keys
        self._twins = twins

    def twin(self, task: NewTask) -> int | None:
        """Give the task that this one would be for a second time."""
        known = None if task.key is None else self._keys.get(task.key)
        if known is not None:
            _require_same(task, known)
            return known.id
        return None if task.unique is None else self._twins.get((task.kind, task.unique))

    def note(self, task_id: int, task: NewTask) -> None:
        """Remember a task that is taken."""
        if task.key is not None:
            self._keys[task.key] = _Known(task_id, task.kind, task.payload)
        if task.unique is not None:
            self._twins[task.kind, task.unique] = task_id

    def forget(self, tasks: Iterable[NewTask]) -> None:
        """Forget tasks that were noted and are not taken after all."""
        for task in tasks:
            self._keys.pop(task.key or "", None)
            self._twins.pop((task.kind, task.unique or ""), None)


class _KeyConflict(Exception):
    """The key belongs to another task."""


def take(tx: Transaction, submissions: Sequence[Submission]) -> Taken:
    """Take the tasks of each submission, all or none of them; `enter` is to follow in this transaction."""
    if not submissions:
        return _NOTHING
    names = _Names(_known_keys(tx, submissions), terms.active_twins(tx, submissions))
    taken: dict[int, NewTask] = {}
    for submission in submissions:
        try:
            answer = _take(submission, names, taken, tx.sequences.task_id + len(taken))
        except _KeyConflict as conflict:
            tx.receipt.submissions.append(Refused(str(conflict), Cause.KEY_CONFLICT))
        else:
            tx.receipt.submissions.append(answer)
    tx.sequences.task_id += len(taken)
    return Taken(
        [_fresh(tx, task_id, task) for task_id, task in taken.items()],
        [terms.terms_of(task_id, task, tx.now) for task_id, task in taken.items() if task.has_terms],
    )


def enter(tx: Transaction, taken: Taken) -> None:
    """Insert what was taken."""
    fresh = taken.fresh
    long = [astuple(task) for task in fresh if is_long(task.payload)]
    short = [task for task in fresh if not is_long(task.payload)] if long else fresh
    alike = Counter(map(_common, fresh))
    _insert_short(tx, short, list(alike))
    tx.change_each(_INSERT_ONE, long)
    terms.write(tx, taken.terms)
    for (kind, _, state, *_), times in alike.items():
        tx.books.move(kind, None, state, times)
    due = [task.run_at for task in fresh if task.state is State.SCHEDULED and task.run_at is not None]
    if due:
        tx.schedule(min(due))
    tx.books.happened("submitted", len(fresh))


def _insert_short(tx: Transaction, short: Sequence[Fresh], alike: Sequence[tuple[Value, ...]]) -> None:
    if len({its[1:] for its in alike}) != 1:
        tx.change(_INSERT, short)
        return
    common = dict(zip(_COMMON, alike[0], strict=True))
    if len(alike) == 1:
        tx.change(_INSERT_ALIKE, [(task.id, task.payload, task.key) for task in short], common)
    else:
        del common["kind"]
        tx.change(_INSERT_ALIKE_BUT_KIND, [(task.id, task.payload, task.key, task.kind) for task in short], common)


def _known_keys(tx: Transaction, submissions: Sequence[Submission]) -> dict[str, _Known]:
    keys = [task.key for submission in submissions for task in submission.tasks if task.key is not None]
    if not keys:
        return {}
    found = tx.run(_BY_KEY, {"keys": values(keys)}).fetchall()
    return {key: _Known(id, kind, payload) for key, id, kind, payload in found}


def _take(submission: Submission, names: _Names, taken: dict[int, NewTask], next_id: int) -> Submitted:
    """Number the tasks, and put those into `taken` that are no other's twins."""
    ids: list[int] = []
    duplicates: list[int] = []
    new: dict[int, NewTask] = {}
    for task in submission.tasks:
        if task.key is not None or task.unique is not None:
            twin = _twin(task, names, new)
            if twin is not None:
                ids.append(twin)
                duplicates.append(twin)
                continue
            names.note(next_id, task)
        new[next_id] = task
        ids.append(next_id)
        next_id += 1
    taken |= new
    return Submitted(ids, duplicates)


def _twin(task: NewTask, names: _Names, new: dict[int, NewTask]) -> int | None:
    try:
        return names.twin(task)
    except _KeyConflict:
        # None of its submission is taken.
        names.forget(new.values())
        raise


def _fresh(tx: Transaction, task_id: int, task: NewTask) -> Fresh:
    run_at = tx.now + task.delay if task.delay is not None else task.run_at
    state = State.SCHEDULED if run_at is not None and run_at > tx.now else State.PENDING
    max_retries = task.max_retries or tx.policy.max_retries
    return Fresh(task_id, task.kind, task.payload, task.priority, state, task.key, max_retries, task.timeout, run_at)


def _require_same(task: NewTask, twin: _Known) -> None:
    if task.kind != twin.kind or not _is_same_json(task.payload, twin.payload):
        raise _KeyConflict(
            f"key {task.key!r} already belongs to task {twin.id} of kind {twin.kind!r} with another kind or payload; "
            "use a new key for a new task"
        )


def _is_same_json(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return _is_same(msgspec.json.decode(one), msgspec.json.decode(other))
    except (msgspec.DecodeError, RecursionError):
        return False  # a number or a depth that Python does not hold: only the same text is surely the same value


def _is_same(one: object, other: object) -> bool:
    """Compare as JSON does: 1 is 1.0, and true, which Python takes for 1, is not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)
