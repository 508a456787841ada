"""What must be true of a database, a log and everything that was said, once all is over."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

from tests.simulation.journal import Intent, Journal
from tests.simulation.servers import MOST_OFF_S

Row = dict[str, Any]

_ENDED = ("completed", "dead", "cancelled", "expired")
_FAILED = ("failed", "died", "timed out")


def judge(
    journal: Journal, folder: Path, *, has_drained: bool, keep_completed_s: float, has_jumped: bool = False
) -> None:
    """Blame whoever broke a promise.

    A drain takes tasks back without a word of their workers, and where the clock jumped nobody knows which was first.
    """
    case = Case(journal, folder, keep_completed_s=keep_completed_s)
    case.judge()
    if not has_drained:
        case.judge_resumption()
    if not has_jumped:
        case.judge_ends()
        case.judge_twins()


class Case:
    """A journal, and the store that it has led to."""

    def __init__(self, journal: Journal, folder: Path, *, keep_completed_s: float) -> None:
        self._journal = journal
        self._folder = folder
        with closing(sqlite3.connect(folder / "tasks.db")) as connection:
            connection.row_factory = sqlite3.Row
            self._integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
            self._tasks = {row["id"]: row for row in self._rows(connection, "tasks")}
            self._attempts = {row["id"]: row for row in self._rows(connection, "assignments")}
            self._letters = self._rows(connection, "dead_letters")
            self._audit = self._rows(connection, "audit")
            self._counts = self._rows(connection, "counts")
            self._given_out = dict(connection.execute("SELECT name, seq FROM sqlite_sequence")).get("tasks", 0)
            self._happened = dict(connection.execute("SELECT event, sum(times) FROM activity GROUP BY event"))
            self._present = [row for row in self._rows(connection, "clients") if row["left_at"] is None]
        self._attempts_of: dict[int, list[Row]] = defaultdict(list)
        for attempt in self._attempts.values():
            self._attempts_of[attempt["task_id"]].append(attempt)
        self._letters_of: dict[int, list[Row]] = defaultdict(list)
        for letter in self._letters:
            self._letters_of[letter["task_id"]].append(letter)
        self._cleared = {letter["task_id"] for letter in self._letters if letter["resolution"] == "cleared"}
        # What went by the rule is what a worker has completed, so long ago that no clock's error explains it.
        long_ago_s = journal.now_s() - keep_completed_s + 2 * MOST_OFF_S
        reports = [said for several in journal.reports.values() for said in several]
        completed = {said.task_id for said in reports if said.outcome == "completed" and said.at_s <= long_ago_s}
        self._pruned = completed - self._tasks.keys() - self._cleared
        self._gone = self._cleared | self._pruned

    def judge(self) -> None:
        """Look at everything."""
        if self._integrity != "ok":
            self._blame("integrity_check:", self._integrity)
        self._judge_acknowledgements()
        self._judge_intents()
        for task in self._tasks.values():
            self._judge_attempts(task)
            self._judge_terms(task)
            self._judge_value(task)
        self._judge_verdicts()
        self._judge_notices()
        self._judge_log()
        self._judge_books()

    def judge_resumption(self) -> None:
        """What a worker named when it came back was its own, unless it had ended before."""
        for id in self._journal.lost:
            attempt = self._attempts.get(id)
            said = {one.outcome for one in self._journal.reports.get(id, [])}
            if attempt is not None and attempt["outcome"] == "released" and "released" not in said:
                self._blame(f"assignment {id} was taken from the worker that came back with it")

    def _blame(self, *words: object) -> None:
        self._journal.blame(*words)

    @staticmethod
    def _rows(connection: sqlite3.Connection, table: str) -> list[Row]:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]

    def _judge_acknowledgements(self) -> None:
        """Acknowledged means there; one key, one task."""
        for key, ids in self._journal.acknowledged.items():
            for id in ids:
                task = self._tasks.get(id)
                if task is None:
                    if id not in self._gone:
                        self._blame(f"task {id} ({key}) was acknowledged and is not there")
                elif task["key"] != key:
                    self._blame(f"task {id} was acknowledged as {key} and is {task['key']}")
            if len([id for id in ids if id not in self._gone]) > 1:
                self._blame(f"{key} was acknowledged as several tasks: {ids}")

    def _judge_intents(self) -> None:
        """Nothing is there that nobody wanted."""
        keys = [task["key"] for task in self._tasks.values()]
        if len(keys) != len(set(keys)):
            self._blame("a key has several tasks")
        for task in self._tasks.values():
            if Intent(task["kind"], task["payload"].encode()) not in self._journal.intents.get(task["key"], ()):
                self._blame(f"task {task['id']} ({task['key']}) is what nobody submitted")

    def _judge_attempts(self, task: Row) -> None:
        """Failed attempts are counted exactly, and a task ends once for each time it was opened."""
        id, attempts, letters = task["id"], self._attempts_of[task["id"]], self._letters_of[task["id"]]
        failed = sum(attempt["outcome"] in _FAILED for attempt in attempts)
        spent = sum(self._spent_at_death(letter) for letter in letters if letter["resolution"] == "reprocessed")
        if failed != task["retry_count"] + spent:
            self._blame(f"task {id} has {failed} failed attempts, counted {task['retry_count']} and {spent} before")
        if task["retry_count"] > task["max_retries"]:
            self._blame(f"task {id} failed {task['retry_count']} times of at most {task['max_retries']}")
        completed = [attempt["id"] for attempt in attempts if attempt["outcome"] == "completed"]
        if len(completed) != (task["state"] == "completed"):
            self._blame(f"task {id} is {task['state']} and was completed by {completed}")
        if completed and completed[0] != max(attempt["id"] for attempt in attempts):
            self._blame(f"task {id} was given again after its end")
        still_dead = [letter for letter in letters if letter["resolution"] is None]
        if len(still_dead) != (task["state"] == "dead"):
            self._blame(f"task {id} is {task['state']} with {len(still_dead)} open dead letters")
        if task["state"] not in _ENDED or any(attempt["finished_at"] is None for attempt in attempts):
            self._blame(f"task {id} is {task['state']}: {attempts}")

    def _judge_terms(self, task: Row) -> None:
        """Nothing begins too late, no attempt has less time than it may take, and a stop is a stop."""
        id, ended_at = task["id"], task["finished_at"] or 0
        if (task["state"] == "cancelled") != (task["cancel_requested_at"] is not None and task["state"] != "completed"):
            self._blame(f"task {id} is {task['state']} and was to stop at {task['cancel_requested_at']}")
        if task["state"] == "expired" and (task["expires_at"] is None or task["expires_at"] > ended_at):
            self._blame(f"task {id} expired at {ended_at}, which was for {task['expires_at']}")
        if task["deadline_at"] is not None:
            self._blame(f"task {id} has a deadline and does not run")
        for attempt in self._attempts_of[id]:
            began_at, took = attempt["assigned_at"], (attempt["finished_at"] or 0) - attempt["assigned_at"]
            if task["expires_at"] is not None and began_at >= task["expires_at"]:
                self._blame(f"task {id} was begun although it had expired: {attempt}")
            if attempt["outcome"] == "timed out" and took < (task["timeout"] or inf):
                self._blame(f"task {id} may take {task['timeout']} and had {took}")

    def judge_ends(self) -> None:
        """No task is begun after its end."""
        for task in self._tasks.values():
            if task["state"] in ("cancelled", "expired"):
                for attempt in self._attempts_of[task["id"]]:
                    if attempt["assigned_at"] > task["finished_at"]:
                        self._blame(f"task {task['id']} was begun although it was over: {attempt}")

    def judge_twins(self) -> None:
        """Two tasks of one kind and unique key are not active at the same time."""
        lives: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
        for task in self._tasks.values():
            if task["unique_key"] is not None and not self._letters_of[task["id"]]:
                life = (task["created_at"], task["finished_at"] or 0, task["id"])
                lives[task["kind"], task["unique_key"]].append(life)
        for its in lives.values():
            for (_, ended_at, id), (came_at, _, next_id) in pairwise(sorted(its)):
                if came_at < ended_at:
                    self._blame(f"task {next_id} came while task {id}, of the same kind and unique key, was active")

    def _spent_at_death(self, letter: Row) -> int:
        # The dead line of the same death is the one at the same instant.
        for row in self._audit:
            line = json.loads(row["line"])
            if line["event"] == "dead" and line["task"] == letter["task_id"] and row["at"] == letter["died_at"]:
                spent: int = line["retry_count"]
                return spent
        self._blame(f"task {letter['task_id']} died without a line")
        return 0

    def _judge_value(self, task: Row) -> None:
        """A result came from the assignment that won."""
        if task["state"] != "completed":
            return
        for attempt in self._attempts_of[task["id"]]:
            said = self._journal.reports.get(attempt["id"], [])
            values = [one.value for one in said if one.outcome == "completed" and one.task_id == task["id"]]
            if attempt["outcome"] == "completed" and task["result"].encode() not in values:
                self._blame(f"task {task['id']} has a result that assignment {attempt['id']} did not send")

    def _judge_verdicts(self) -> None:
        """Accepted means recorded, stale means that nothing changed; what was recorded was said."""
        for id, verdicts in self._journal.verdicts.items():
            attempt = self._attempts.get(id)
            said = self._journal.reports.get(id, [])
            if len(verdicts) > 1 and not {one.task_id for one in said} & self._gone:
                self._blame(f"the report on assignment {id} was both accepted and stale")
            if attempt is None:
                if not {one.task_id for one in said} <= self._gone:
                    self._blame(f"assignment {id} was answered and is not there")
            elif "accepted" in verdicts and not _is_as_said(attempt["outcome"], {one.outcome for one in said}):
                self._blame(f"assignment {id} was accepted and is {attempt['outcome']}")
        for id, attempt in self._attempts.items():
            outcomes = {one.outcome for one in self._journal.reports.get(id, [])}
            if attempt["outcome"] in ("completed", "failed") and attempt["outcome"] not in outcomes:
                self._blame(f"assignment {id} is {attempt['outcome']}, which nobody said: {outcomes}")

    def _judge_notices(self) -> None:
        """What a follower was told is what happened."""
        for end in self._journal.ends:
            task = self._tasks.get(end.task_id)
            if end.state == "dead" and not self._letters_of[end.task_id]:
                self._blame(f"task {end.task_id} was told dead and never was")
            if end.state in ("cancelled", "expired") and (task is None or task["state"] != end.state):
                self._blame(f"task {end.task_id} was told {end.state} and is {task}")
            if task is None and end.task_id in self._pruned:
                continue
            if end.state == "completed" and (task is None or task["result"].encode() != bytes(end.value)):  # type: ignore[arg-type]
                self._blame(f"task {end.task_id} was told completed and is {task}")

    def _judge_log(self) -> None:
        """The log holds the audit rows, each once, in order."""
        log = self._folder / "dead.log"
        lines = log.read_text().splitlines() if log.exists() else []
        if lines != [row["line"] for row in self._audit]:
            self._blame(f"the log has {len(lines)} lines, the audit {len(self._audit)}; they differ")
        events: dict[str, int] = defaultdict(int)
        for row in self._audit:
            events[row["event"]] += 1
        resolutions = [letter["resolution"] for letter in self._letters]
        wanted = {"dead": len(self._letters)} | {name: resolutions.count(name) for name in ("reprocessed", "cleared")}
        if dict(events) != {name: times for name, times in wanted.items() if times}:
            self._blame(f"the audit has {dict(events)}, the dead letters say {wanted}")

    def _judge_books(self) -> None:
        """The counts are exact, and nobody is present who has left."""
        counted: dict[tuple[str, str], int] = defaultdict(int)
        for task in self._tasks.values():
            counted[task["kind"], task["state"]] += 1
        kept = {(row["kind"], row["state"]): row["tasks"] for row in self._counts if row["tasks"]}
        if kept != counted:
            self._blame(f"the books say {kept}, the tasks {dict(counted)}")
        numbers = set(range(1, self._given_out + 1)) - self._tasks.keys() - self._cleared
        if numbers != self._pruned or len(numbers) != self._happened.get("pruned", 0):
            self._blame(f"{self._happened.get('pruned', 0)} tasks were pruned; {numbers - self._pruned} are gone")
        if self._present:
            self._blame(f"clients are present after the end: {self._present}")


def _is_as_said(outcome: str, said: set[str]) -> bool:
    # What was to stop and failed has stopped.
    return outcome in said or (outcome == "cancelled" and "failed" in said)
