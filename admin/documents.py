"""JSON for programs: ASCII only, so that it passes through any terminal and pipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw

Document = Mapping[str, object]

# DEL is a control character that JSON lets through.
_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")


def page(document: Document) -> str:
    """Write a document over several lines."""
    return _ascii(msgspec.json.format(msgspec.json.encode(document), indent=2))


def line(document: Document) -> str:
    """Write a document in one line."""
    return _ascii(msgspec.json.encode(document))


def embedded(text: str | None) -> Raw | str | None:
    """Give JSON text as the value that it stands for, digit by digit, and any other text as a string."""
    if text is None:
        return None
    try:
        # As Raw it is checked and never turned into Python's numbers, which are not JSON's.
        return msgspec.json.decode(text, type=Raw)
    except (msgspec.DecodeError, RecursionError):
        return text


def _ascii(document: bytes) -> str:
    # In valid JSON such characters stand in strings only, where an escape means the same.
    return _BEYOND_ASCII.sub(
        lambda found: json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f", document.decode()
    )
