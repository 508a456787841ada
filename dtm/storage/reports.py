"""What clients say of their assignments: accepted once, or stale.

A report counts if its assignment is the task's current one and the client's own. The same report again, because its
answer was lost, is answered as before and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from dtm.core.lifecycle import State
from dtm.storage.attempts import end
from dtm.storage.batch import Failed, Released, Report, Success
from dtm.storage.outcomes import ATTEMPT, Attempt, Outcome
from dtm.storage.receipt import Verdict
from dtm.storage.schema import assignments, clients, is_in, tasks
from dtm.storage.sql import AnyRow, among, values
from dtm.storage.transaction import Transaction

# Of each assignment that can still end its task, just what an `Attempt` holds.
_LIVE = (
    select(*ATTEMPT)
    .join_from(assignments, tasks, tasks.c.id == assignments.c.task_id)
    .where(
        among(assignments.c.id, "ids"),
        assignments.c.outcome.is_(None),
        tasks.c.assignment_id == assignments.c.id,
        is_in(State.ASSIGNED),
    )
)
_NAMED = select(assignments.c.id, assignments.c.task_id, assignments.c.client_id, assignments.c.outcome).where(
    among(assignments.c.id, "ids")
)
_STATES = select(tasks.c.id, tasks.c.state).where(among(tasks.c.id, "ids"))
_WHO = select(clients.c.id, clients.c.name, clients.c.instance).where(among(clients.c.id, "ids"))

_OUTCOMES: dict[type[Outcome], tuple[str, ...]] = {
    Success: ("completed",),
    Failed: ("failed", "cancelled"),
    Released: ("released",),
}


def settle(tx: Transaction, reports: Sequence[Report]) -> None:
    """End the attempts that `reports` speak of, where they still may."""
    if not reports:
        return
    live = _live(tx, reports)
    counted: dict[int, Report] = {}
    for report in reports:
        attempt = live.get(report.assignment_id)
        if attempt is not None and _is_its_own(report, attempt):
            counted.setdefault(report.assignment_id, report)
    endings = end(tx, [(live[id], report.outcome) for id, report in counted.items()])
    verdicts = [Verdict(accepted=True, state=ending.state) for ending in endings]
    if len(verdicts) < len(reports):
        verdicts = _verdicts(tx, reports, counted, dict(zip(counted, verdicts, strict=True)))
    tx.receipt.reports += verdicts


def _verdicts(
    tx: Transaction, reports: Sequence[Report], counted: Mapping[int, Report], accepted: Mapping[int, Verdict]
) -> list[Verdict]:
    """Give the answers in order, where some reports have changed nothing."""
    later = _Afterwards(tx, [report for report in reports if counted.get(report.assignment_id) is not report])
    verdicts = []
    yet_to_count = set(counted)
    for report in reports:
        if counted.get(report.assignment_id) is report:
            yet_to_count.discard(report.assignment_id)
            verdicts.append(accepted[report.assignment_id])
        else:
            # What comes before the report that counts cannot repeat it.
            may_repeat = report.assignment_id not in yet_to_count
            verdicts.append(later.verdict(report, may_repeat=may_repeat))
    return verdicts


def _live(tx: Transaction, reports: Sequence[Report]) -> dict[int, Attempt]:
    found = tx.run(_LIVE, {"ids": _ids(reports)}).fetchall()
    return {row[0]: Attempt(*row) for row in found}


def _is_its_own(report: Report, attempt: Attempt) -> bool:
    return attempt.task_id == report.task_id and attempt.client_id == report.client_id


def _ids(reports: Sequence[Report]) -> str:
    return values({report.assignment_id for report in reports})


class _Afterwards:
    """The answers to reports that changed nothing."""

    def __init__(self, tx: Transaction, reports: Sequence[Report]) -> None:
        # Read again: an attempt of this very batch may be the one that a report repeats.
        found = tx.connection.execute(_NAMED, {"ids": _ids(reports)}).all()
        self._named: dict[int, AnyRow] = {row.id: row for row in found}
        self._states = tx.texts(_STATES, {report.task_id for report in reports})
        holders = {row.client_id for row in self._named.values()} | {report.client_id for report in reports}
        # By every connection of its life a process is known by these two.
        self._who = {id: who for id, *who in tx.connection.execute(_WHO, {"ids": values(holders)})}

    def verdict(self, report: Report, *, may_repeat: bool) -> Verdict:
        return Verdict(accepted=may_repeat and self._is_repeated(report), state=self._states.get(report.task_id))

    def _is_repeated(self, report: Report) -> bool:
        row = self._named.get(report.assignment_id)
        return (
            row is not None
            and row.task_id == report.task_id
            and row.outcome in _OUTCOMES[type(report.outcome)]
            and self._who.get(row.client_id) == self._who.get(report.client_id)
        )
