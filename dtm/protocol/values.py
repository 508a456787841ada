"""What a payload or a result may be: strict JSON in UTF-8, nested no deeper than everybody can read.

Knows no messages.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate

import msgspec
from msgspec import Raw

MAX_DEPTH = 128
"""Lists and objects inside one another. Python's own `json` gives up near 1,000, SQLite's JSON functions at 1,000 and
jq 1.6 at 256; this leaves each of them room for what a message wraps around a value."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `require_json` raises."""

_ANYTHING = msgspec.json.Decoder(Raw)
_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
# One step down for each bracket that opens, one up for each that closes; as a signed byte, 255 is -1.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class BadValue(ValueError):
    """What no message can carry: it …"""


def checked(data: bytes) -> Raw:
    """Give `data` as a value that a message may carry.

    Raises:
        BadValue: it is no strict JSON in UTF-8, or nests deeper than `MAX_DEPTH`.
    """
    try:
        require_utf8(data)
        require_json(data)
    except NOT_JSON as error:
        raise BadValue(f"is no JSON ({error})") from error
    if is_too_deep(data):
        raise BadValue(f"nests more than {MAX_DEPTH} lists and objects inside one another")
    return Raw(data)


def require_utf8(data: bytes) -> None:
    """Make sure that `data` is UTF-8; decoders of JSON do not look into texts that they only hand on.

    Raises:
        UnicodeDecodeError: it is not.
    """
    if not data.isascii():
        data.decode()


def require_json(data: bytes) -> None:
    """Make sure that `data` is JSON, whatever it says.

    Raises:
        DecodeError, RecursionError: it is not, or nests hundreds deep.
    """
    _ANYTHING.decode(data)


def is_too_deep(data: bytes) -> bool:
    """Say whether the valid JSON text `data` nests deeper than `MAX_DEPTH`; takes time linear in its length."""
    # Each level takes two brackets, so most payloads are done with here, and almost all others one line below.
    if len(data) <= 2 * MAX_DEPTH or data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _TEXTS.sub(b"", data).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0) > MAX_DEPTH


def encoded(value: object) -> bytes:
    """Write a Python value as strict JSON that a message may carry.

    Raises:
        BadValue: it cannot be; NaN and the infinities, which JSON does not have, neither.
    """
    try:
        data = msgspec.json.encode(value)
        checked(data)
        if b"null" in data:
            require_no_nan(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, BadValue):
            raise
        raise BadValue(f"is no JSON ({error})") from error
    return data


def require_no_nan(value: object) -> None:
    """Refuse what msgspec would write as null in silence: NaN and the infinities.

    Raises:
        ValueError: there is one.
    """
    json.dumps(msgspec.to_builtins(value, enc_hook=_nothing), allow_nan=False)


def _nothing(_: object) -> None:
    """Stand for a `Raw`, which has been checked and is no Python number."""
