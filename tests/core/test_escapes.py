"""Strangers' words: what steers a terminal or breaks a line comes out as an escape, once."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtm.core.escapes import escaped, json_escaped, quoted, steers

anything = st.text(st.characters(codec=None))
FEARED = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\u2028\u2029",
]
# They turn no direction by themselves, and are as invisible.
MARKS = set("\u200e\u200f\u061c")


@pytest.mark.parametrize("letter", [*FEARED, *sorted(MARKS), "\ud800"], ids=lambda letter: f"U+{ord(letter):04X}")
def test_what_steers_a_terminal_is_written_as_an_escape(letter: str) -> None:
    """C0, DEL, C1, the ends of lines and the turns of direction; lone surrogates, which no terminal can be sent."""
    shown = escaped(f"a{letter}é")

    assert shown.isprintable()
    assert shown.isascii() is False
    assert shown.startswith("a\\")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é, 日本", "plain text, é, 日本"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028", "\\u2028"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escapes_are_pythons_own(text: str, shown: str) -> None:
    """Controls of both sets, line ends of all kinds and invisible marks; letters stay."""
    assert escaped(text) == shown


@given(anything)
def test_escaping_twice_is_escaping_once(text: str) -> None:
    """Whoever shows a message may escape it again."""
    assert escaped(escaped(text)) == escaped(text)
    assert escaped(text).isprintable()


@given(st.text(st.sampled_from("aé\\'\"漢\U0001f4a3 ")))
def test_what_is_printable_stays(text: str) -> None:
    """Backslashes and quotes too: nothing is doubled."""
    assert escaped(text) == text


@given(st.binary(), st.integers(0, 20))
@example(b"\xff\xe2\x80", 20)
@example(b"\\ud800\x1b", 20)
def test_any_bytes_can_be_quoted(data: bytes, most: int) -> None:
    """In one harmless line; whether that is all of them shows."""
    shown = quoted(data, most)

    assert shown.isprintable()
    assert shown.endswith("'…") == (len(data) > most)


def test_bytes_that_are_no_text_are_quoted_by_their_number() -> None:
    """Once, and what is text stays readable."""
    assert quoted("é\\".encode() + b"\xff\x1b", 80) == r"'é\\xff\x1b'"


@given(st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists), st.sampled_from([None, "\t", "\r"]))
@example("".join(FEARED), None)
@example([["a\r\n\t\x7f"]], "\r\n")
def test_json_stays_the_same_value(value: object, indent: str | None) -> None:
    """Only its spelling changes, and only where it must; between values such a character is a blank."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    shown = json_escaped(text)

    assert json.loads(shown) == value
    assert not steers(shown)
    assert shown == text or steers(text)


def test_what_is_feared_is_what_unicode_calls_control_or_direction() -> None:
    """A later Unicode may add to them; then this list must grow."""
    turns = {"BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    found = {
        letter
        for letter in map(chr, range(0xD800))
        if unicodedata.category(letter) in ("Cc", "Zl", "Zp")
        or (unicodedata.bidirectional(letter) in turns - {"BN"} and unicodedata.category(letter) == "Cf")
    }

    assert {letter for letter in map(chr, range(0xD800)) if steers(letter)} == found - {"\t"} | MARKS
