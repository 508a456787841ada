"""The constructs that differ from database to database, each in one place.

Rows and values travel as one JSON parameter: a statement then runs once for a whole batch, in one step of SQLite that
leaves Python's interpreter lock alone, and stays the same for any number of rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Subquery, Table, bindparam, func, literal_column, select
from sqlalchemy.dialects.sqlite import Insert, insert

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

# As JSON has it. After an odd number of backslashes it is the text of a NUL's escape, such as a payload may hold.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Say that `column` is one of the values that `values()` packs into the parameter `name`.

    One parameter for any number of values: the statement stays the same, so that it is prepared once.
    """
    return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))


def those(items: Iterable[int]) -> Select[Any]:
    """Stand for any number of values, in a statement that is built for them.

    Written out, many of them meet SQLite's limit of parameters, and one above 64 bits fails.
    """
    return select(func.json_each(values(items)).table_valued("value").c.value)


def values(items: Iterable[int] | Iterable[str]) -> str:
    """Pack values for a parameter of `among`."""
    return msgspec.json.encode(list(items)).decode()


def given(*names: str) -> Subquery:
    """Stand for the rows that `rows()` packs into the parameter `rows`, their columns called `names`."""
    item = func.json_each(bindparam("rows")).table_valued("value").c.value
    columns = (func.json_extract(item, literal_column(f"'$[{n}]'")).label(name) for n, name in enumerate(names))
    return select(*columns).subquery("given")


def rows(items: Sequence[tuple[int | str | None, ...]]) -> str:
    """Pack rows for the parameter of `given`.

    Raises:
        ValueError: a number or a text that would not come back as it is.
    """
    packed = msgspec.json.encode(items)
    if b"\\u0000" in packed and _NUL.search(packed):
        # SQLite's JSON functions end a text at its first NUL.
        raise ValueError("a text holds the character NUL")
    return packed.decode()


def add_up(table: Table, amount: str) -> Insert:
    """Insert a row, or add its `amount` to that of the row with the same primary key."""
    statement = insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={amount: table.c[amount] + statement.excluded[amount]},
    )
