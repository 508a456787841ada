"""The safety lines of what a submitter may ask for: timeouts, expiry, cancelling, uniqueness, progress, policies."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_STORAGE = "tests/storage"
_OVERDUE = (f"{_STORAGE}/test_overdue.py",)
_CANCEL = (f"{_STORAGE}/test_cancel.py",)
_WIRE = ("tests/server/test_terms.py",)

TERMS = (
    Mutation(
        name="terms: what has expired given out before it is swept",
        file="dtm/storage/claim.py",
        line='    .where(tasks.c.expires_at.is_(None) | (tasks.c.expires_at > bindparam("now")))\n',
        weakened="",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: the expiry of what comes back forgotten",
        file="dtm/storage/attempts.py",
        line="        if event in _BACK:\n",
        weakened="        if False:\n",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: an expiry kept for what an operator lets run again",
        file="dtm/storage/deadletters.py",
        line="        expires_at=None,\n",
        weakened="",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: an attempt ended before its client could come back",
        file="dtm/storage/store.py",
        line="        if not batch.spares_overdue:\n",
        weakened="        if True:\n",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: timeouts ended right after a start",
        file="dtm/server/app.py",
        line="        if self._opened.store.next_deadline_at is not None:\n",
        weakened="        if False:\n",
        tests=_WIRE,
    ),
    Mutation(
        name="terms: a standstill that makes results late",
        file="dtm/server/monitor.py",
        line="            hub.committer.spare_overdue(now_s + min(late_s, settings.heartbeat_timeout_s))\n",
        weakened="",
        tests=_WIRE,
    ),
    Mutation(
        name="terms: timeouts ended by an operator on a stopped store",
        file="admin/gateway.py",
        line=", spares_overdue=True",
        weakened="",
        tests=("tests/admin/test_cancel.py",),
    ),
    Mutation(
        name="terms: a deadline that outlives its attempt",
        file="dtm/storage/attempts.py",
        line="assignment_id=None, deadline_at=None, ",
        weakened="assignment_id=None, ",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: a timeout that no policy judges",
        file="dtm/storage/outcomes.py",
        line="        return attempt.policy.tries_again([outcome.failure.type, *_TIMEOUT_IS])\n",
        weakened="        return True\n",
        tests=_OVERDUE,
    ),
    Mutation(
        name="terms: a task that is to stop tried again",
        file="dtm/storage/outcomes.py",
        line="        case _ if attempt.cancel_requested_at is not None:\n",
        weakened="        case _ if False:\n",
        tests=_CANCEL,
    ),
    Mutation(
        name="terms: a client that comes back not asked again to stop",
        file="dtm/storage/clients.py",
        line="    if resumed:\n        # It may",
        weakened="    if False:\n        # It may",
        tests=_CANCEL,
    ),
    Mutation(
        name="terms: an empty selection that cancels everything",
        file="dtm/storage/cancel.py",
        line="    if selection.is_empty or ",
        weakened="    if ",
        tests=_CANCEL,
    ),
    Mutation(
        name="terms: a repeated word on what was cancelled taken for stale",
        file="dtm/storage/reports.py",
        line='    Failed: ("failed", "cancelled"),\n',
        weakened='    Failed: ("failed",),\n',
        tests=_CANCEL,
    ),
    Mutation(
        name="terms: progress of an attempt that is not the current one",
        file="dtm/storage/progress.py",
        line="        tasks.c.assignment_id == _GIVEN.c.assignment_id,\n",
        weakened="",
        tests=(f"{_STORAGE}/test_progress.py",),
    ),
    Mutation(
        name="terms: a place taken for ever by what timed out before it began",
        file="dtm/client/workload.py",
        line="                said.append(self._return(work.task_id, work.assignment))\n",
        weakened="                self._drop(work.assignment)\n",
        tests=("tests/client/test_workload.py",),
    ),
    Mutation(
        name="terms: anybody's word on anybody's progress",
        file="dtm/server/membership.py",
        line="        if message.assignment in self._registered().held:\n",
        weakened="        if self._registered():\n",
        tests=_WIRE,
    ),
    Mutation(
        name="terms: the last progress before the result lost",
        file="dtm/server/lastwords.py",
        line="if its in self._words else {}",
        weakened="if False else {}",
        tests=_WIRE,
    ),
    Mutation(
        name="terms: a key that its twin of the same transaction does not see",
        file="dtm/storage/intake.py",
        line="            self._twins[task.kind, task.unique] = task_id\n",
        weakened="            pass\n",
        tests=(f"{_STORAGE}/test_unique.py",),
    ),
    Mutation(
        name="terms: a refused submission that keeps its keys",
        file="dtm/storage/intake.py",
        line="        names.forget(new.values())\n",
        weakened="",
        tests=(f"{_STORAGE}/test_unique.py", f"{_STORAGE}/test_intake.py"),
    ),
    Mutation(
        name="terms: a yes that wins over a no",
        file="dtm/core/retry.py",
        line="            return False\n        return not",
        weakened="            pass\n        return not",
        tests=("tests/core/test_retry.py",),
    ),
)
