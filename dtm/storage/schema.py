"""The tables, as SQLAlchemy Core sees them.

The migrations create them and never import this page; a test holds the two together. Instants are UTC microseconds
(integers), durations microseconds, payloads and results JSON text. The tables are STRICT, so that SQLite refuses a
value of another type instead of keeping it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)

REVISION = "0003"
"""The migration this code is written for."""

APPLICATION_ID = 0x64746D31
"""SQLite's mark of a file that is ours: "dtm1" in ASCII."""

BACKUP_MARK = 0x626B7570
"""SQLite's user version in a copy that nobody may work on as it is: "bkup" in ASCII."""

metadata = MetaData()

# SQLite knows one integer of 64 bits, and only under this name lets it be the row's own number.
Int64 = BigInteger().with_variant(Integer, "sqlite")


def _only(condition: str) -> dict[str, Any]:
    """Make an index partial in each dialect."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


tasks = Table(
    "tasks",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("priority", Int64, nullable=False),
    Column("state", Text, nullable=False),
    Column("key", Text),
    Column("retry_count", Int64, nullable=False),
    Column("max_retries", Int64, nullable=False),
    Column("timeout", Int64),
    Column("created_at", Int64, nullable=False),
    Column("run_at", Int64),
    Column("last_retry_at", Int64),
    Column("finished_at", Int64),
    Column("result", Text),
    Column("error", Text),
    Column("assignment_id", Int64),
    # The submitter's retry policy as JSON; null leaves it to the server.
    Column("retry", Text),
    Column("unique_key", Text),
    Column("expires_at", Int64),
    # Of the running attempt, and only of one that has a timeout.
    Column("deadline_at", Int64),
    Column("cancel_requested_at", Int64),
    # What the running or last attempt said last, as JSON.
    Column("progress", Text),
    CheckConstraint(
        "state IN ('scheduled', 'pending', 'assigned', 'completed', 'dead', 'cancelled', 'expired')",
        name="ck_tasks_state",
    ),
    CheckConstraint("(state = 'assigned') = (assignment_id IS NOT NULL)", name="ck_tasks_assignment"),
    CheckConstraint("(state = 'scheduled') <= (run_at IS NOT NULL)", name="ck_tasks_run_at"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)


def is_in(state: str) -> ColumnElement[bool]:
    """Say that a task is in `state`, in the words of the partial indexes.

    Written into the statement: as a parameter it would make SQLite prepare the statement anew at each run, to see
    whether such an index fits this time.
    """
    return tasks.c.state == literal_column(f"'{state}'")


claim_index = Index(
    "ix_tasks_claim",
    tasks.c.kind,
    tasks.c.priority.desc(),
    tasks.c.id,
    **_only("state = 'pending'"),
)
due_index = Index("ix_tasks_due", tasks.c.run_at, **_only("state = 'scheduled'"))
key_index = Index("uq_tasks_key", tasks.c.key, unique=True, **_only("key IS NOT NULL"))

_WAITS = "state IN ('scheduled', 'pending')"
_IS_ACTIVE = "state IN ('scheduled', 'pending', 'assigned')"


def is_one_of(*states: str) -> ColumnElement[bool]:
    """Say that a task is in one of `states`, in the words of the partial indexes, as `is_in`."""
    return tasks.c.state.in_([literal_column(f"'{state}'") for state in states])


waits = is_one_of("scheduled", "pending")
is_active = is_one_of("scheduled", "pending", "assigned")

expiry_index = Index("ix_tasks_expiry", tasks.c.expires_at, **_only(f"expires_at IS NOT NULL AND {_WAITS}"))
deadline_index = Index("ix_tasks_deadline", tasks.c.deadline_at, **_only("deadline_at IS NOT NULL"))
unique_index = Index(
    "uq_tasks_unique",
    tasks.c.unique_key,
    tasks.c.kind,
    unique=True,
    **_only(f"unique_key IS NOT NULL AND {_IS_ACTIVE}"),
)

clients = Table(
    "clients",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("kinds", Text, nullable=False),
    Column("capacity", Int64, nullable=False),
    Column("connected_at", Int64, nullable=False),
    Column("last_heartbeat_at", Int64, nullable=False),
    Column("left_at", Int64),
    Column("why", Text),
    Column("left_tasks", Text),
    # The process behind the name, in its own words; null if it gave none.
    Column("instance", Text),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

left_index = Index("ix_clients_left", clients.c.left_at)
instance_index = Index("ix_clients_instance", clients.c.instance, **_only("left_at IS NULL"))

assignments = Table(
    "assignments",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("task_id", Int64, ForeignKey("tasks.id"), nullable=False),
    Column("client_id", Int64, ForeignKey("clients.id"), nullable=False),
    Column("assigned_at", Int64, nullable=False),
    Column("finished_at", Int64),
    Column("outcome", Text),
    Column("error", Text),
    CheckConstraint(
        "outcome IN ('completed', 'failed', 'died', 'released', 'cancelled', 'timed out')",
        name="ck_assignments_outcome",
    ),
    CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="ck_assignments_finished"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

attempts_index = Index("ix_assignments_task", assignments.c.task_id)
live_index = Index("ix_assignments_live", assignments.c.client_id, **_only("finished_at IS NULL"))

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Int64, primary_key=True),
    # No foreign key: the row outlives a cleared task and tells what became of it.
    Column("task_id", Int64, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("died_at", Int64, nullable=False),
    Column("resolved_at", Int64),
    Column("resolution", Text),
    CheckConstraint("resolution IN ('reprocessed', 'cleared')", name="ck_dead_letters_resolution"),
    CheckConstraint("(resolution IS NULL) = (resolved_at IS NULL)", name="ck_dead_letters_resolved"),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

open_letters_index = Index("ix_dead_letters_open", dead_letters.c.task_id, unique=True, **_only("resolved_at IS NULL"))

audit = Table(
    "audit",
    metadata,
    Column("seq", Int64, primary_key=True),
    Column("at", Int64, nullable=False),
    Column("event", Text, nullable=False),
    Column("line", Text, nullable=False),
    sqlite_strict=True,
)

counts = Table(
    "counts",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("tasks", Int64, nullable=False),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

activity = Table(
    "activity",
    metadata,
    Column("minute", Int64, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("times", Int64, nullable=False),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)

meta = Table(
    "meta",
    metadata,
    Column("id", Int64, primary_key=True),
    Column("store_id", Text, nullable=False),
    Column("epoch", Int64, nullable=False),
    Column("log_position", Int64, nullable=False),
    CheckConstraint("id = 1", name="ck_meta_one_row"),
    sqlite_strict=True,
)
