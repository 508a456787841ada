"""Any message of a type, made from what its fields say they may hold: a new message is tried without being named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw, inspect

# Valid JSON whose text must come back as it is.
RAWS = st.recursive(
    st.sampled_from(["null", "1e999", "-0.0", "12345678901234567890123", '"\\u0000"', '"\u2028\U0001f4a3"', "[ 1 ]"])
    | st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: st.lists(inner, max_size=2).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=4,
).map(lambda text: Raw(text.encode()))


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Make anything that `kind`, a message or a union of them, may be."""
    return _made(inspect.type_info(kind))


def _made(info: inspect.Type) -> st.SearchStrategy[Any]:
    return _MAKERS[type(info)](info)


def _struct(info: Any) -> st.SearchStrategy[Any]:
    fields = {field.name: _made(field.type) for field in info.fields if field.required}
    optional = {field.name: _made(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(fields, optional=optional).map(lambda values: info.cls(**values))


def _text(info: Any) -> st.SearchStrategy[str]:
    if info.pattern:
        return st.from_regex(info.pattern)
    return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 20, 20))


def _number(info: Any) -> st.SearchStrategy[float]:
    lowest = info.ge if info.gt is None else info.gt
    numbers = st.floats(lowest, info.le, allow_nan=False, allow_infinity=False)
    return numbers if info.gt is None else numbers.filter(lambda number: number > info.gt)


_MAKERS: dict[type[inspect.Type], Callable[[Any], st.SearchStrategy[Any]]] = {
    inspect.StructType: _struct,
    inspect.UnionType: lambda info: st.one_of([_made(part) for part in info.types]),
    inspect.ListType: lambda info: st.lists(_made(info.item_type), min_size=info.min_length or 0, max_size=3),
    inspect.IntType: lambda info: st.integers(info.ge, info.le),
    inspect.FloatType: _number,
    inspect.StrType: _text,
    inspect.BoolType: lambda _: st.booleans(),
    inspect.LiteralType: lambda info: st.sampled_from(info.values),
    inspect.NoneType: lambda _: st.none(),
    inspect.RawType: lambda _: RAWS,
}
