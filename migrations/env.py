"""Alembic's entry: at run time on the connection that dtm hands in, for developers on `-x db=FILE`.

At run time the caller owns the transaction, so that a migration is whole or not at all.
"""

from __future__ import annotations

from pathlib import Path

from alembic import context
from sqlalchemy import Connection, create_engine, event


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=context.config.attributes.get("metadata"))
    with context.begin_transaction():
        context.run_migrations()


def _developers_connection() -> None:
    path = context.get_x_argument(as_dictionary=True).get("db")
    if path is None or not Path(path).exists():
        raise SystemExit("name an existing database: alembic -x db=tasks.db …")
    engine = create_engine(f"sqlite:///{path}", isolation_level=None)
    # The driver opens no transaction before DDL; without one a migration that fails half-way stays half-way.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        _migrate(connection)


handed_in = context.config.attributes.get("connection")
if handed_in is None:
    _developers_connection()
else:
    _migrate(handed_in)
