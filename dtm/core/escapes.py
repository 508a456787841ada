"""Strangers' words made harmless: what would steer a terminal, or break a line, is written as an escape.

Payloads, errors, kinds and names come from clients. Whatever shows them to people passes through here.
"""

from __future__ import annotations

import re

# C0 but the tab, DEL and C1, and the ends of lines that only Unicode knows.
_BREAKS = "\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029"
# What turns the direction of writing, so that a text can look like another one.
_TURNS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKING = re.compile(f"[{_BREAKS}]")
_STEERING = re.compile(f"[{_BREAKS}{_TURNS}]")
# Bytes that are no UTF-8, as Python's `surrogateescape` keeps them.
_STRAY_BYTES = re.compile("[\udc80-\udcff]")


def escaped(text: str) -> str:
    """Write everything that a terminal would not print as an escape; the result is one line, and escaped for good."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def quoted(data: bytes, most: int) -> str:
    """Quote the beginning of `data`, which may be anything, for a message."""
    text = data[:most].decode("utf-8", "surrogateescape")
    shown = _STRAY_BYTES.sub(lambda stray: f"\\x{ord(stray[0]) - 0xDC00:02x}", text)
    return f"'{escaped(shown)}'{'…' if len(data) > most else ''}"


def breaks(text: str) -> bool:
    """Say whether `text` would break its line or command a terminal."""
    return _BREAKING.search(text) is not None


def steers(text: str) -> bool:
    """Say whether `text` would do that, or show a person something else than it holds."""
    return _STEERING.search(text) is not None


def json_escaped(text: str) -> str:
    """Write the JSON text `text` so that it is one line and harmless, and still the same value.

    In JSON such a character stands in a text, where an escape means the same, or is the end of a line between two
    values, where a blank does.
    """
    return _STEERING.sub(lambda found: " " if found[0] in "\r\n" else f"\\u{ord(found[0]):04x}", text)
