"""How deep a text nests: told exactly at the bound, whatever stands in its strings, and quickly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.protocol.values import MAX_DEPTH, is_too_deep

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
)


def depth(value: object) -> int:
    """Measure it the slow way."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def lists(levels: int, inside: bytes = b"") -> bytes:
    """Write so many lists, each inside another."""
    return b"[" * levels + inside + b"]" * levels


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        lists(MAX_DEPTH),
        lists(MAX_DEPTH, b'"[[[[{{{{"'),
        lists(MAX_DEPTH, b'"\\"[[", 1'),
        b"[" + b",".join([b"[]"] * 1_000) + b"]",
        b'"' + b"[" * 1_000 + b'"',
        b'{"' + b"[" * 1_000 + b'":"' + b"{" * 1_000 + b'\\\\"}',
    ],
)
def test_what_is_not_deep_passes(data: bytes) -> None:
    """Many brackets side by side, or in texts, are no depth."""
    json.loads(data)

    assert not is_too_deep(data)


@pytest.mark.parametrize(
    "data",
    [
        lists(MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"[1," + lists(MAX_DEPTH) + b"]",
        b"[" + lists(MAX_DEPTH, b'"]]]]"') + b"]",
        b'["\\\\",' + lists(MAX_DEPTH) + b',"\\""]',
        b'["\\"",' + lists(MAX_DEPTH) + b',"\\\\"]',
        lists(200_000),
    ],
)
def test_what_is_deeper_is_told(data: bytes) -> None:
    """Wherever the deepest place stands."""
    assert is_too_deep(data)


@given(JSON, st.integers(0, MAX_DEPTH + 3), st.booleans())
def test_it_is_the_depth_that_counts(value: object, around: int, has_spaces: bool) -> None:  # noqa: FBT001
    """Against the slow way, around the bound."""
    data = lists(around, json.dumps(value, indent=1 if has_spaces else None, ensure_ascii=has_spaces).encode())

    assert is_too_deep(data) == (around + depth(value) > MAX_DEPTH)
