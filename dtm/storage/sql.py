"""The constructs that differ from database to database, each in one place.

Rows and values travel as one JSON parameter: a statement then runs once for a whole batch, in one step of SQLite that
leaves Python's interpreter lock alone, and stays the same for any number of rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import ColumnElement, Select, Subquery, Table, bindparam, func, literal_column, select
from sqlalchemy.dialects.sqlite import Insert, insert

Value = int | str | None
Row = tuple[Value, ...] | msgspec.Struct
"""What `rows()` packs: a tuple, or a structure that is written as an array."""

LONG = 1_000
"""Characters beyond which a text is worth a parameter of its own."""

AnyRow = sqlalchemy.Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

_HOLDS_NUL = "a text holds the character NUL"
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
    each = func.json_each(bindparam("rows")).table_valued("value")
    # The offset keeps SQLite from writing out the whole row anew for each of its columns.
    item = select(each.c.value.label("item")).limit(literal_column("-1")).offset(literal_column("0")).subquery().c.item
    columns = (func.json_extract(item, literal_column(f"'$[{n}]'")).label(name) for n, name in enumerate(names))
    return select(*columns).subquery("given")


def given_one(*names: str) -> Subquery:
    """Stand for a single row, given by `row()`, its columns called `names`.

    For long texts: SQLite's JSON functions take more than ten nanoseconds for each character, a parameter one.
    """
    return select(*(bindparam(f"given_{n}").label(name) for n, name in enumerate(names))).subquery("given")


def rows(items: Sequence[Row]) -> str:
    """Pack rows for the parameter of `given`.

    Raises:
        ValueError: a number or a text that would not come back as it is.
    """
    packed = msgspec.json.encode(items)
    if b"\\u0000" in packed and _NUL.search(packed):
        # SQLite's JSON functions end a text at its first NUL.
        raise ValueError(_HOLDS_NUL)
    return packed.decode()


def is_long(value: Value) -> bool:
    """Whether a value is a text that `given_one` is for."""
    return isinstance(value, str) and len(value) > LONG


def require_no_nul(items: Iterable[Value]) -> None:
    """See that each text of `items` is one that `rows` would take.

    Raises:
        ValueError: one is not.
    """
    if any(isinstance(value, str) and "\0" in value for value in items):
        raise ValueError(_HOLDS_NUL)


def row(item: Sequence[Value]) -> dict[str, Value]:
    """Pack a row for the parameters of `given_one`.

    Raises:
        ValueError: a text that `rows` would not take.
    """
    require_no_nul(item)
    return {f"given_{n}": value for n, value in enumerate(item)}


def add_up(table: Table, amount: str) -> Insert:
    """Insert a row, or add its `amount` to that of the row with the same primary key."""
    statement = insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={amount: table.c[amount] + statement.excluded[amount]},
    )
