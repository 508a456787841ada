"""Strangers' words made harmless: what would steer a terminal, or break a line, is written as an escape.

Payloads, errors, kinds and names come from clients. Whatever shows them to people passes through here.
"""

from __future__ import annotations

import re

# As in JSON texts: C0, DEL and C1, the ends of lines that only Unicode knows, and what turns the direction of writing.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
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


def steers(text: str) -> bool:
    """Say whether `text` would break its line or command the terminal."""
    return _STEERING.search(text) is not None


def json_escaped(text: str) -> str:
    """Write the JSON text `text` so that it is one line and harmless, and still the same value.

    In valid JSON on one line such characters stand in texts only, where an escape means the same.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
