"""Statements that run in every transaction, compiled once and then given straight to the driver.

SQLAlchemy writes them and names their errors; running one through it as well costs five times what SQLite takes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, SelectBase, UpdateBase
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from dtm.storage.engine import driver_of
from dtm.storage.sql import Value

Statement = SelectBase | UpdateBase

_MOST_STATEMENTS = 512
"""More than there are."""


class Prepared:
    """The statements of one connection, each by its object: a statement made anew each time has no place here."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._dialect = connection.dialect
        self._driver = driver_of(connection)
        self._compiled: dict[Statement, _Compiled] = {}

    def run(self, statement: Statement, values: Mapping[str, Value]) -> sqlite3.Cursor:
        """Run `statement`; integers and texts go in and come out as they are, rows as tuples.

        Raises:
            KeyError: a value is missing.
            DBAPIError: as SQLAlchemy raises it.
        """
        compiled = self._compile(statement)
        parameters = compiled.parameters(values)
        try:
            return self._driver.execute(compiled.text, parameters)
        except sqlite3.Error as error:
            raise self._wrapped(compiled, parameters, error) from error

    def run_each(self, statement: Statement, rows: Iterable[Mapping[str, Value]]) -> int:
        """Run `statement` for each of `rows`, and give how many it has changed.

        Raises:
            KeyError: a value is missing.
            DBAPIError: as SQLAlchemy raises it.
        """
        compiled = self._compile(statement)
        parameters = [compiled.parameters(row) for row in rows]
        try:
            return self._driver.executemany(compiled.text, parameters).rowcount
        except sqlite3.Error as error:
            raise self._wrapped(compiled, parameters, error) from error

    def _compile(self, statement: Statement) -> _Compiled:
        known = self._compiled.get(statement)
        if known is None:
            known = self._compiled[statement] = _compiled(statement, self._dialect)
        return known

    def _wrapped(self, compiled: _Compiled, parameters: Any, error: Exception) -> BaseException:
        return DBAPIError.instance(compiled.text, parameters, error, sqlite3.Error, dialect=self._dialect)


class _Compiled:
    """A statement's text, and where its values go."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        assert compiled.positiontup is not None
        self.text = compiled.string
        self.names = compiled.positiontup
        # What the statement itself says; the rest has to be given each time.
        self._fixed: dict[str, Value] = {
            name: compiled.binds[name].effective_value for name in self.names if not compiled.binds[name].required
        }

    def parameters(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        known = {**self._fixed, **values} if self._fixed else values
        return tuple([known[name] for name in self.names])


@lru_cache(_MOST_STATEMENTS)
def _compiled(statement: Statement, dialect: Dialect) -> _Compiled:
    """Compile once for all connections of an engine: a store that is opened again finds it done."""
    return _Compiled(statement, dialect)
