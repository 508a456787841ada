"""The tables of the first release.

Revision: 0001, the first.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite knows one integer of 64 bits, and only under this name lets it be the row's own number.
Int64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")
APPLICATION_ID = 0x64746D31


def upgrade() -> None:
    _create_work()
    _create_ledger()
    _create_books()
    _create_indexes()
    _sign()


def downgrade() -> None:
    raise RuntimeError("there is nothing before the first release")


def _create_work() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", Int64, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("priority", Int64, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("retry_count", Int64, nullable=False),
        sa.Column("max_retries", Int64, nullable=False),
        sa.Column("timeout", Int64),
        sa.Column("created_at", Int64, nullable=False),
        sa.Column("run_at", Int64),
        sa.Column("last_retry_at", Int64),
        sa.Column("finished_at", Int64),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("assignment_id", Int64),
        sa.CheckConstraint("state IN ('scheduled', 'pending', 'assigned', 'completed', 'dead')", name="ck_tasks_state"),
        sa.CheckConstraint("(state = 'assigned') = (assignment_id IS NOT NULL)", name="ck_tasks_assignment"),
        sa.CheckConstraint("(state = 'scheduled') <= (run_at IS NOT NULL)", name="ck_tasks_run_at"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "clients",
        sa.Column("id", Int64, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("kinds", sa.Text, nullable=False),
        sa.Column("capacity", Int64, nullable=False),
        sa.Column("connected_at", Int64, nullable=False),
        sa.Column("last_heartbeat_at", Int64, nullable=False),
        sa.Column("left_at", Int64),
        sa.Column("why", sa.Text),
        sa.Column("left_tasks", sa.Text),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "assignments",
        sa.Column("id", Int64, primary_key=True),
        sa.Column("task_id", Int64, sa.ForeignKey("tasks.id"), nullable=False),
        sa.Column("client_id", Int64, sa.ForeignKey("clients.id"), nullable=False),
        sa.Column("assigned_at", Int64, nullable=False),
        sa.Column("finished_at", Int64),
        sa.Column("outcome", sa.Text),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("outcome IN ('completed', 'failed', 'died', 'released')", name="ck_assignments_outcome"),
        sa.CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="ck_assignments_finished"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )


def _create_ledger() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", Int64, primary_key=True),
        sa.Column("task_id", Int64, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("died_at", Int64, nullable=False),
        sa.Column("resolved_at", Int64),
        sa.Column("resolution", sa.Text),
        sa.CheckConstraint("resolution IN ('reprocessed', 'cleared')", name="ck_dead_letters_resolution"),
        sa.CheckConstraint("(resolution IS NULL) = (resolved_at IS NULL)", name="ck_dead_letters_resolved"),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "audit",
        sa.Column("seq", Int64, primary_key=True),
        sa.Column("at", Int64, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
        sqlite_strict=True,
    )


def _create_books() -> None:
    op.create_table(
        "counts",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("tasks", Int64, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "activity",
        sa.Column("minute", Int64, primary_key=True),
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("times", Int64, nullable=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "meta",
        sa.Column("id", Int64, primary_key=True),
        sa.Column("store_id", sa.Text, nullable=False),
        sa.Column("epoch", Int64, nullable=False),
        sa.Column("log_position", Int64, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_meta_one_row"),
        sqlite_strict=True,
    )


def _create_indexes() -> None:
    _create_index("ix_tasks_claim", "tasks", ["kind", sa.text("priority DESC"), "id"], only="state = 'pending'")
    _create_index("ix_tasks_due", "tasks", ["run_at"], only="state = 'scheduled'")
    _create_index("uq_tasks_key", "tasks", ["key"], only="key IS NOT NULL", unique=True)
    op.create_index("ix_clients_left", "clients", ["left_at"])
    op.create_index("ix_assignments_task", "assignments", ["task_id"])
    _create_index("ix_assignments_live", "assignments", ["client_id"], only="finished_at IS NULL")
    _create_index("ix_dead_letters_open", "dead_letters", ["task_id"], only="resolved_at IS NULL", unique=True)


def _create_index(
    name: str, table: str, columns: list[str | sa.TextClause], *, only: str, unique: bool = False
) -> None:
    where = sa.text(only)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _sign() -> None:
    meta = sa.table("meta", sa.column("id"), sa.column("store_id"), sa.column("epoch"), sa.column("log_position"))
    op.execute(sa.insert(meta).values(id=1, store_id=secrets.token_hex(16), epoch=0, log_position=0))
    if op.get_context().dialect.name == "sqlite":
        op.execute(f"PRAGMA application_id = {APPLICATION_ID}")
