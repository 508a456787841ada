"""What a task's submitter may ask for besides its run: expiry, retry policy, uniqueness, progress, cancellation.

Revision: 0003, after 0002.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# SQLite knows one integer of 64 bits, and only under this name.
Int64 = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_COLUMNS = (
    ("retry", sa.Text),
    ("unique_key", sa.Text),
    ("expires_at", Int64),
    ("deadline_at", Int64),
    ("cancel_requested_at", Int64),
    ("progress", sa.Text),
)
_STATES = ("state IN ('scheduled', 'pending', 'assigned', 'completed', 'dead'", ", 'cancelled', 'expired')")
_OUTCOMES = ("outcome IN ('completed', 'failed', 'died', 'released'", ", 'cancelled', 'timed out')")


def upgrade() -> None:
    for name, kind in _COLUMNS:
        op.add_column("tasks", sa.Column(name, kind))
    _allow_more("tasks", *_STATES)
    _allow_more("assignments", *_OUTCOMES)
    _create_index(
        "ix_tasks_expiry", ["expires_at"], only="expires_at IS NOT NULL AND state IN ('scheduled', 'pending')"
    )
    _create_index("ix_tasks_deadline", ["deadline_at"], only="deadline_at IS NOT NULL")
    _create_index(
        "uq_tasks_unique",
        ["unique_key", "kind"],
        only="unique_key IS NOT NULL AND state IN ('scheduled', 'pending', 'assigned')",
        unique=True,
    )


def downgrade() -> None:
    raise RuntimeError("dtm migrates forward only; restore the backup that was made before")


def _allow_more(table: str, values: str, more: str) -> None:
    """Let the table's rule allow more values than it did.

    SQLite cannot alter a rule. To copy the table would take a large store minutes, and its size again of disk; its
    documented way for a rule that only gets wider (sqlite.org/lang_altertable.html, 7) is to correct its own text.
    """
    connection = op.get_bind()
    _permit(connection)
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text(
            "UPDATE sqlite_schema SET sql = replace(sql, :old, :new)"
            " WHERE type = 'table' AND name = :table AND instr(sql, :old) > 0"
        ),
        {"table": table, "old": f"{values})", "new": values + more},
    ).rowcount
    if changed != 1:
        raise CommandError(f"the table {table} is not as revision {down_revision} left it")
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    # Not OFF: RESET also makes this connection read its tables anew.
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")


def _permit(connection: sa.Connection) -> None:
    """Let this connection correct the schema where SQLite was built to refuse that, if Python can (3.12 and newer)."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "setconfig"):
        driver.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), False)  # noqa: B009  unknown to 3.11


def _create_index(name: str, columns: list[str], *, only: str, unique: bool = False) -> None:
    where = sa.text(only)
    op.create_index(name, "tasks", columns, unique=unique, sqlite_where=where, postgresql_where=where)
