"""A line of the dead-letter log: one line whatever is in it, and no change to it goes unseen."""

from __future__ import annotations

import hashlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.auditline import FIRST_BYTES, FIRST_PREV, MAX_PAYLOAD, digest, quote_payload, render, seq_of

AT = 1_700_000_000_123_456
FIELDS = {
    "task": 7,
    "kind": "add",
    "payload": '{"a": 1}',
    "retry_count": 3,
    "client": "w1",
    "error": "ValueError: boom",
}
LINE = render(12, AT, "dead", FIELDS, prev=FIRST_PREV)

# What a log, a terminal or a reader of lines could take for more than text.
NASTY = [
    "\r",
    "\n",
    "\r\n",
    "\x1b[2J",
    "\0",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\U0001f4a3",
    "\ud800",
    '"',
    "\\",
    ',"crc":"',
]

numbers = st.integers(0, 2**63 - 1)
texts = st.text(st.characters()) | st.sampled_from(NASTY)
lines = st.builds(
    lambda seq, kind, payload, error: render(
        seq, AT, "dead", {"kind": kind, "payload": payload, "error": error}, prev=FIRST_PREV
    ),
    numbers,
    texts,
    texts,
    texts,
)


def test_a_line_tells_everything_in_a_fixed_order() -> None:
    """Number, instant and event, then what the event is about, then the chain and the check."""
    told = json.loads(LINE)

    assert list(told) == ["seq", "at", "event", *FIELDS, "prev", "crc"]
    assert told == {
        "seq": 12,
        "at": "2023-11-14T22:13:20.123456Z",
        "event": "dead",
        **FIELDS,
        "prev": FIRST_PREV,
        "crc": told["crc"],
    }


def test_the_check_is_the_crc_of_everything_in_front_of_it() -> None:
    """Anybody can check a line with nothing but a CRC-32."""
    body, _, tail = LINE.partition(',"crc":"')

    assert tail == f'{zlib.crc32(body.encode()):08x}"}}'


def test_a_full_second_has_its_microseconds_too() -> None:
    """All instants have one length, so that they sort as text."""
    assert json.loads(render(1, 0, "dead", {}, prev=FIRST_PREV))["at"] == "1970-01-01T00:00:00.000000Z"


@given(numbers, texts)
def test_a_whole_line_gives_its_number(seq: int, text: str) -> None:
    """Reading gives back what was written."""
    assert seq_of(render(seq, AT, "dead", {"error": text}, prev=FIRST_PREV).encode()) == seq


@given(lines)
def test_a_line_is_one_line_of_printable_ascii(line: str) -> None:
    """Neither a line end nor a terminal's escape survives as itself, and nothing is lost by that."""
    assert line.isascii()
    assert line.isprintable()
    assert line.encode().startswith(FIRST_BYTES)


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_what_is_odd_in_a_payload_is_read_back_as_it_was(text: str) -> None:
    """Escaped, not replaced."""
    line = render(1, AT, "dead", {"payload": f"a{text}b"}, prev=FIRST_PREV)

    assert line.splitlines() == [line]
    assert json.loads(line)["payload"] == f"a{text}b"


def test_every_shorter_piece_of_a_line_is_torn() -> None:
    """However much of the last line a crash left, it is not taken for a whole one."""
    whole = LINE.encode()
    found = {length: seq_of(whole[:length]) for length in range(len(whole))}

    assert set(found.values()) == {None}


def test_every_changed_byte_is_noticed() -> None:
    """No byte of a line can become another without the line being refused."""
    whole = LINE.encode()
    unnoticed = [
        (at, byte)
        for at in range(len(whole))
        for byte in range(256)
        if byte != whole[at] and seq_of(whole[:at] + bytes([byte]) + whole[at + 1 :]) is not None
    ]

    assert not unnoticed


@given(lines, st.data())
def test_a_line_of_any_content_shows_where_it_was_hurt(line: str, data: st.DataObject) -> None:
    """Cut, or one bit turned: what the payload says does not help it through."""
    whole = line.encode()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    turned = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]

    assert seq_of(whole[:at]) is None
    assert seq_of(turned) is None


@pytest.mark.parametrize("extra", [b"\n", b" ", b"}", b"\0", LINE.encode()], ids=ascii)
def test_a_line_with_something_behind_it_is_not_whole(extra: bytes) -> None:
    """A line ends with its check; even the line end is the reader's to take off."""
    assert seq_of(LINE.encode() + extra) is None


@given(st.binary())
def test_whatever_else_stands_in_the_log_is_no_line(foreign: bytes) -> None:
    """Any bytes are an answer, not an error."""
    assert seq_of(foreign) is None


@pytest.mark.parametrize("body", ['{"no":1', '{"seq":"1"', '{"seq":null', "[1", '{"seq":1.5', '{"seq":'])
def test_a_line_with_a_right_check_and_no_number_is_not_ours(body: str) -> None:
    """The check alone makes no line."""
    line = f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}'.encode()

    assert seq_of(line) is None


def test_a_digest_is_the_sha256_of_the_line() -> None:
    """Anybody can check the chain with sha256sum."""
    assert digest(LINE) == hashlib.sha256(LINE.encode()).hexdigest()
    assert len(FIRST_PREV) == len(digest(LINE))


@given(lines, lines)
def test_two_lines_have_two_digests(one: str, other: str) -> None:
    """The next line names exactly one predecessor."""
    assert (digest(one) == digest(other)) == (one == other)


@given(st.lists(texts, min_size=2, max_size=5, unique=True), st.data())
def test_a_chain_shows_a_line_that_is_missing_or_moved(errors: list[str], data: st.DataObject) -> None:
    """Each line names the one before, so nothing is taken out or put elsewhere unseen."""
    chain: list[str] = []
    for seq, error in enumerate(errors, start=1):
        prev = digest(chain[-1]) if chain else FIRST_PREV
        chain.append(render(seq, AT, "dead", {"error": error}, prev=prev))
    left_out = data.draw(st.integers(0, len(chain) - 2))

    assert _is_chain(chain)
    assert not _is_chain(chain[:left_out] + chain[left_out + 1 :])
    assert not _is_chain(chain[::-1])


def _is_chain(chain: list[str]) -> bool:
    named = [json.loads(line)["prev"] for line in chain]
    return named == [FIRST_PREV, *(digest(line) for line in chain[:-1])]


@given(st.text(max_size=MAX_PAYLOAD))
def test_a_short_payload_is_quoted_whole(payload: str) -> None:
    """And nothing stands beside it."""
    assert quote_payload(payload) == {"payload": payload}


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f4a3"])
def test_a_long_payload_is_quoted_in_part_and_named_by_its_hash(letter: str) -> None:
    """What is left out can still be told from any other, and its size is known."""
    payload = letter * (MAX_PAYLOAD + 1)
    whole = payload.encode()

    assert quote_payload(payload) == {
        "payload": payload[:-1],
        "payload_bytes": len(whole),
        "payload_sha256": hashlib.sha256(whole).hexdigest(),
    }
