"""JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dtm_admin.documents import embedded, line, page


@pytest.mark.parametrize("write", [page, line])
@pytest.mark.parametrize("text", ["é", "日本", "\U0001f600", "\x1b[2J", "\x7f", "\x9b", "\u2028", 'a"\\b'])
def test_document_is_ascii_and_means_the_same(write: Callable[[dict[str, object]], str], text: str) -> None:
    """Nothing in it steers a terminal or needs an encoding."""
    written = write({text: [text]})

    assert all(" " <= letter <= "~" or letter == "\n" for letter in written)
    assert json.loads(written) == {text: [text]}


def test_line_is_one_line() -> None:
    """Whatever is in it."""
    assert "\n" not in line({"a": "1\n2", "b": [1, {"c": None}]})


@pytest.mark.parametrize(
    "text", ["null", "12345678901234567890123", "1.10", "1e3", '{"a":[1,2]}', '"é"', "-0.0", '{"a":1,"a":2}']
)
def test_json_text_is_embedded_digit_by_digit(text: str) -> None:
    """No number passes through Python's."""
    assert line({"payload": embedded(text)}) == '{"payload":' + text.replace("é", "\\u00e9") + "}"


@pytest.mark.parametrize("text", ["NaN", "{", "", "[1] 2", "abc", "[" * 100_000])
def test_other_text_is_embedded_as_a_string(text: str) -> None:
    """A store that somebody wrote into by hand can still be read."""
    assert json.loads(line({"payload": embedded(text)})) == {"payload": text}


def test_nothing_is_embedded_as_null() -> None:
    """A task without a result."""
    assert line({"result": embedded(None)}) == '{"result":null}'
