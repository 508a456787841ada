"""Words for people: cuts, counts and times."""

from __future__ import annotations

import pytest

from dtm_admin.clock import SECOND, age, exact, plain, span, with_age
from dtm_admin.wording import counted, indented, shortened, some


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, "-"),
        ("", ""),
        ("12345678", "12345678"),
        ("123456789", "1234567…"),
        ("\x1b" * 9, "\\x1b\\x1…"),
        ("x" * 1_000_000, "xxxxxxx…"),
    ],
)
def test_cell_is_no_wider_than_it_may_be(text: str | None, shown: str) -> None:
    """The escapes count, too."""
    assert shortened(text, 8) == shown


def test_indented_text_keeps_its_lines() -> None:
    """And only those that are lines everywhere."""
    assert indented("a\n  b\x0b\n\nc\n") == "  a\n    b\\x0b\n\n  c"


def test_counted_knows_one_from_many() -> None:
    """One thing, and more than one."""
    assert [counted(n, "task") for n in (0, 1, 2, 1_200)] == ["0 tasks", "1 task", "2 tasks", "1,200 tasks"]


def test_some_says_how_many_it_leaves_out() -> None:
    """Of what it was given, or of what there is."""
    assert some([1, 2], most=2) == "1, 2"
    assert some([1, 2, 3], most=2) == "1, 2 and 1 more"
    assert some([1, 2], most=2, total=1_202) == "1, 2 and 1,200 more"
    assert some([], most=2) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s ago"), (59, "59s ago"), (60, "1m ago"), (7_199, "1h ago"), (90_000, "1d ago"), (-61, "in 1m")],
)
def test_age_is_rough(seconds: int, shown: str) -> None:
    """One unit, rounded down, backwards and forwards."""
    now = 1_700_000_000 * SECOND

    assert age(now - seconds * SECOND, now) == shown


def test_instants_are_utc() -> None:
    """For programs to the microsecond, for people to the second."""
    at = 1_700_000_000 * SECOND + 1

    assert exact(at) == "2023-11-14T22:13:20.000001Z"
    assert plain(at) == "2023-11-14T22:13:20Z"
    assert with_age(at, at + 185 * SECOND) == "2023-11-14T22:13:20Z (3m ago)"
    assert (exact(None), with_age(None, at)) == (None, "-")


def test_span_is_exact_to_the_millisecond() -> None:
    """And never negative: clocks are set back."""
    assert [span(n) for n in (0, 12_345, 61_000_400, -5)] == ["0s", "12ms", "1m1s", "0s"]
