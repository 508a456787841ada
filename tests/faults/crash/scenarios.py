"""The lives that are crashed: which disk each begins with, and what happens in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from random import Random

from msgspec import Struct

from dtm.core.auditline import seq_of
from dtm.storage.auditfiles import log_end, rotated_name
from tests.faults.crash.crowd import Habits
from tests.faults.crash.disk import Disk
from tests.faults.crash.ledger import Logged, Note, Told
from tests.faults.crash.life import DATABASE, LOG, Plan
from tests.faults.crash.recorder import Kind, Recorder
from tests.faults.crash.trace import Start, Trace, new_folder, record

_EMPTY_HANDED = Plan(0, Habits())
# What a store of the first schema could hold.
_PLAIN = Plan(15, Habits(terms=0, cancel=0, progress=0))
_LETTERS = Habits(report=9, command=3, failures=0.8)

AFTERWARDS = Plan(3, Habits(), checkpoint_pages=12)
"""What a server does that comes up after a crash."""


# Back to the first schema: what the migrations since then have added.
_DOWNGRADE = """
    BEGIN;
    DROP INDEX ix_clients_instance; ALTER TABLE clients DROP COLUMN instance;
    DROP INDEX ix_tasks_expiry; DROP INDEX ix_tasks_deadline; DROP INDEX uq_tasks_unique;
    ALTER TABLE tasks DROP COLUMN retry; ALTER TABLE tasks DROP COLUMN unique_key;
    ALTER TABLE tasks DROP COLUMN expires_at; ALTER TABLE tasks DROP COLUMN deadline_at;
    ALTER TABLE tasks DROP COLUMN cancel_requested_at; ALTER TABLE tasks DROP COLUMN progress;
    PRAGMA writable_schema = ON;
    UPDATE sqlite_schema SET sql = replace(sql, ', ''cancelled'', ''expired'')', ')') WHERE name = 'tasks';
    UPDATE sqlite_schema SET sql = replace(sql, ', ''cancelled'', ''timed out'')', ')') WHERE name = 'assignments';
    PRAGMA writable_schema = RESET;
    UPDATE alembic_version SET version_num = '0001'; COMMIT;"""


class Scenario(Struct, frozen=True):
    """A kind of life; `weight` says how often it is played."""

    plan: Plan
    weight: int
    begins: str = "created"


SCENARIOS = {
    "create": Scenario(Plan(10, _LETTERS), 2, begins="nothing"),
    "work": Scenario(Plan(15, Habits()), 4),
    "checkpoint": Scenario(Plan(25, Habits(), checkpoint_pages=12), 4),
    "letters": Scenario(Plan(25, _LETTERS, checkpoint_pages=40), 5),
    "rotate": Scenario(Plan(20, _LETTERS, rotations=0.4), 3),
    "backup": Scenario(Plan(8, Habits(), backups=0.5), 2),
    "migrate": Scenario(Plan(2, _LETTERS), 2, begins="outdated"),
    "long": Scenario(Plan(15, Habits(long=0.8, failures=0.7), checkpoint_pages=60), 1),
    "killed-in-creation": Scenario(Plan(2, _LETTERS), 2, begins="creation"),
    "killed-in-commit": Scenario(Plan(2, _LETTERS, checkpoint_pages=12), 4, begins="commit"),
    "killed-in-log": Scenario(Plan(6, _LETTERS, rotations=0.4), 4, begins="log"),
    "log-moved-by-hand": Scenario(Plan(6, _LETTERS, rotations=0.4), 2, begins="moved log"),
}


class Scenes:
    """Traces of the scenarios; what they begin with is made once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        nothing = Start(Disk(), None, 0)
        created = record(recorder, nothing, plan=_EMPTY_HANDED, chance=Random("created"))
        self._created = self._at(len(created.steps), created)
        self._begins: dict[str, Callable[[Random], Start]] = {
            "nothing": lambda _: nothing,
            "created": lambda _: self._created,
            "outdated": self._outdated,
            "creation": lambda _: self._at(_renamed(created), created),
            "commit": lambda chance: self._killed(chance, _unsynced_commits),
            "log": lambda chance: self._killed(chance, _unsynced_lines),
            "moved log": self._moved,
        }

    def start(self, scenario: Scenario, chance: Random) -> Start:
        """Give what the scenario begins with."""
        return self._begins[scenario.begins](chance)

    def trace(self, name: str, chance: Random) -> Trace:
        """Let a life of that scenario happen."""
        scenario = SCENARIOS[name]
        return record(self._recorder, self.start(scenario, chance), plan=scenario.plan, chance=chance)

    def _killed(self, chance: Random, moments: Callable[[Trace], list[int]]) -> Start:
        trace = record(self._recorder, self._created, plan=SCENARIOS["letters"].plan, chance=chance)
        cut = chance.choice(moments(trace) or [len(trace.steps)])
        return self._at(cut, trace)

    def _outdated(self, chance: Random) -> Start:
        trace = record(self._recorder, self._created, plan=_PLAIN, chance=chance)
        with new_folder() as folder:
            trace.disk_after(len(trace.steps)).put(folder)
            self._recorder.watch(folder)
            with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
                connection.executescript(_DOWNGRADE)
            self._recorder.stop()
        trace.steps += self._recorder.steps()
        return self._at(len(trace.steps), trace)

    def _moved(self, chance: Random) -> Start:
        """Kill the server before a line is synced; the log is moved by hand; the next server goes on from it."""
        start = self._killed(chance, _unsynced_lines)
        with new_folder() as folder:
            start.disk.put(folder)
            self._recorder.watch(folder)
            end = log_end(folder / LOG)
            (folder / LOG).rename(rotated_name(folder / LOG, 0 if end is None else seq_of(end[1].encode()) or 0))
            self._recorder.stop()
        moved = Trace(start, self._recorder.steps())
        opened = record(self._recorder, self._at(len(moved.steps), moved), plan=_EMPTY_HANDED, chance=chance)
        return self._at(_placed(opened), opened)

    @staticmethod
    def _at(cut: int, trace: Trace) -> Start:
        return Start(trace.disk_after(cut), trace, cut)


def _renamed(trace: Trace) -> int:
    """Find the step after which a new store has its name, and the folder is not synced yet."""
    return 1 + next(number for number, step in enumerate(trace.steps) if step.kind is Kind.RENAMED)


def _placed(trace: Trace) -> int:
    """Find the step after which a server has said how far the log is."""
    notes = (number for number, step in enumerate(trace.steps) if step.kind is Kind.NOTED)
    return 1 + next(number for number in notes if isinstance(trace.steps[number].note(), Logged))


def _unsynced_commits(trace: Trace) -> list[int]:
    """Find the steps after which just the sync of a commit is missing."""
    return _syncs_before(trace, lambda note: isinstance(note, Told))


def _unsynced_lines(trace: Trace) -> list[int]:
    """Find the steps after which just the sync of a new line in the log is missing."""
    position = 0

    def is_further(note: Note) -> bool:
        nonlocal position
        before, position = position, note.position if isinstance(note, Logged) else position
        return position > before

    return _syncs_before(trace, is_further)


def _syncs_before(trace: Trace, is_meant: Callable[[Note], bool]) -> list[int]:
    sync, found = 0, []
    for number, step in enumerate(trace.steps):
        if step.kind is Kind.SYNCED:
            sync = number
        elif step.kind is Kind.NOTED and is_meant(step.note()) and sync not in found:
            found.append(sync)
    return found
