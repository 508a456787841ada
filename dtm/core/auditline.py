"""One line of the dead-letter log: how it is written, and how a reader knows that it is whole.

Each line is one ASCII JSON object. `prev` is the SHA-256 of the line before, so that a missing or changed line shows;
`crc` is the CRC-32 of everything in front of it, so that a torn line shows.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

FIRST_PREV = "0" * 64
"""What the first line of a store names as its predecessor."""

MAX_PAYLOAD = 1024
"""Characters of a payload's JSON text that a line quotes; the rest stands for itself by its SHA-256."""

FIRST_BYTES = b'{"seq":'
"""How every line begins."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CRC_FIELD = ',"crc":"'
_END = '","crc":"01234567"}'


def render(seq: int, at: int, event: str, fields: Mapping[str, object], *, prev: str) -> str:
    """Write line number `seq` about what happened `at` (UTC microseconds), without its newline."""
    content = {"seq": seq, "at": _instant(at), "event": event, **fields, "prev": prev}
    body = json.dumps(content, ensure_ascii=True, separators=(",", ":"))[:-1]
    return f'{body}{_CRC_FIELD}{zlib.crc32(body.encode("ascii")):08x}"}}'


def digest(line: str) -> str:
    """Give the SHA-256 by which the next line names this one."""
    return hashlib.sha256(line.encode("ascii")).hexdigest()


def is_whole(line: bytes) -> bool:
    """Say whether a line is as it was written, by its CRC."""
    body, mark, tail = line.rpartition(_CRC_FIELD.encode("ascii"))
    return bool(mark) and tail == b'%08x"}' % zlib.crc32(body)


def prev_of(line: bytes) -> str:
    """Give what a whole line names as its predecessor: the last field before the CRC."""
    return line[-len(_END) - len(FIRST_PREV) : -len(_END)].decode("ascii")


def seq_of(line: bytes) -> int | None:
    """Give the number of a whole line, and None for one that is torn or was changed."""
    if not is_whole(line):
        return None
    try:
        seq = json.loads(line)["seq"]
    except (ValueError, KeyError, TypeError):
        return None
    return seq if isinstance(seq, int) else None


def quote_payload(payload: str) -> dict[str, object]:
    """Give the fields that stand for a payload's JSON text in a line."""
    if len(payload) <= MAX_PAYLOAD:
        return {"payload": payload}
    whole = payload.encode("utf-8")
    return {
        "payload": payload[:MAX_PAYLOAD],
        "payload_bytes": len(whole),
        "payload_sha256": hashlib.sha256(whole).hexdigest(),
    }


def _instant(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
