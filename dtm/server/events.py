"""The log's words for what a committed batch has done.

What happens to every task is logged at level debug: at thousands of tasks a second it would drown the rest.
"""

from __future__ import annotations

import logging

import structlog

from dtm.core.lifecycle import State
from dtm.storage.batch import Batch, Cancel, Clear, Command, Failed, Report, Reprocess, Success
from dtm.storage.receipt import Receipt, Refused, Resolved, Verdict

log = structlog.get_logger()

_ENDS = {State.CANCELLED: "task.cancelled", State.EXPIRED: "task.expired"}
_COMMANDS: dict[type[Command], str] = {Reprocess: "reprocess", Clear: "clear", Cancel: "cancel"}


def logs_every_task() -> bool:
    """Whether the log is to tell of each task. To ask takes 10 µs, and a server's answer never changes."""
    return bool(log.is_enabled_for(logging.DEBUG))


def log_events(batch: Batch, receipt: Receipt, *, every_task: bool) -> None:
    """Write down what `receipt` says became of `batch`."""
    if every_task:
        _log_every_task(batch, receipt)
    for task in receipt.retried:
        log.info(
            "task.retry",
            task=task.task_id,
            kind=task.kind,
            client=task.client_id,
            retries=task.retry_count,
            reason=task.reason,
            error=task.error,
        )
    _log_ends(receipt)
    for left in receipt.left:
        level = logging.WARNING if left.why.is_death else logging.INFO
        event = "client.died" if left.why.is_death else "client.left"
        log.log(level, event, client=left.client_id, name=left.name, why=str(left.why), tasks=left.tasks)
    for command, resolved in zip(batch.commands, receipt.commands, strict=True):
        _log_command(_COMMANDS[type(command)], resolved)


def _log_ends(receipt: Receipt) -> None:
    for ended in receipt.ended:
        if ended.state is State.DEAD and ended.failure is not None:
            log.error("task.dead", task=ended.task_id, kind=ended.kind, error=ended.failure.summary)
    for state, event in _ENDS.items():
        ids = [ended.task_id for ended in receipt.ended if ended.state is state]
        if ids:
            # One command ends thousands at once; the store has them all.
            log.info(event, tasks=len(ids), first=ids[0])


def _log_every_task(batch: Batch, receipt: Receipt) -> None:
    for submitted in receipt.submissions:
        if not isinstance(submitted, Refused):
            log.debug("task.submit", first=submitted.ids[0], tasks=len(submitted.ids))
    for assigned in receipt.assigned:
        log.debug(
            "task.assign",
            task=assigned.task_id,
            kind=assigned.kind,
            client=assigned.client_id,
            assignment=assigned.assignment_id,
        )
    for report, verdict in zip(batch.reports, receipt.reports, strict=True):
        _log_result(report, verdict)


def _log_result(report: Report, verdict: Verdict | Refused) -> None:
    status = "refused" if isinstance(verdict, Refused) else "accepted" if verdict.accepted else "stale"
    match report.outcome:
        case Success():
            said = "ok"
        case Failed(failure=failure):
            said = failure.summary
        case _:
            said = "released"
    log.debug("task.result", task=report.task_id, assignment=report.assignment_id, said=said, status=status)


def _log_command(name: str, resolved: Resolved | Refused) -> None:
    if isinstance(resolved, Refused):
        log.warning("admin.refused", command=name, reason=resolved.reason)
    else:
        log.info("admin.command", command=name, done=resolved.done, left=resolved.left)
