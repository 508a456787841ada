"""Lines out of bytes: the same lines however the bytes arrive, and an end to lines that never end."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.protocol.framing import MAX_LINE, MAX_VALUE, LineBuffer, LineTooLong

# What came, the lines in it, and whether one has begun behind them.
CASES: dict[str, tuple[bytes, list[bytes], bool]] = {
    "nothing": (b"", [], False),
    "one line": (b"abc\n", [b"abc"], False),
    "two lines": (b"abc\ndef\n", [b"abc", b"def"], False),
    "an empty line": (b"\n", [b""], False),
    "empty lines around one": (b"\n\na\n\n", [b"", b"", b"a", b""], False),
    "a line and the start of another": (b"abc\nde", [b"abc"], True),
    "the start of a line": (b"ab", [], True),
    "a carriage return is part of the line": (b"a\r\nb\r", [b"a\r"], True),
    "other ends of lines are none": (
        "a\x0b\x0c\x1e\x85\u2028b\n".encode(),
        ["a\x0b\x0c\x1e\x85\u2028b".encode()],
        False,
    ),
    "half a character is no concern": (b"\xe2\x80\n\xff\n", [b"\xe2\x80", b"\xff"], False),
    "a NUL is a byte": (b"\0\n\0", [b"\0"], True),
    "a line just short enough": (b"x" * 10 + b"\n", [b"x" * 10], False),
    "a rest just short enough": (b"x" * 10, [], True),
}

every_case = pytest.mark.parametrize(("data", "lines", "has_rest"), CASES.values(), ids=CASES.keys())
pieces = st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\n\n", b"a\n", b"\nb"]), max_size=12)


def feed(pieces: Iterable[bytes], max_line: int = 10) -> tuple[list[bytes], LineBuffer]:
    """Feed a new buffer, and give the lines and the buffer."""
    buffer = LineBuffer(max_line)
    return [line for piece in pieces for line in buffer.feed(piece)], buffer


def feed_until_refused(pieces: Iterable[bytes], max_line: int) -> tuple[list[bytes], bool]:
    """Feed a new buffer, and give the lines until one was too long, and whether one was."""
    buffer = LineBuffer(max_line)
    lines: list[bytes] = []
    try:
        for piece in pieces:
            for line in buffer.feed(piece):
                lines.append(line)  # noqa: PERF402  # those before the refusal count
    except LineTooLong:
        return lines, True
    return lines, False


@every_case
def test_bytes_that_come_whole_are_split(data: bytes, lines: list[bytes], has_rest: bool) -> None:  # noqa: FBT001
    """Everything at once."""
    found, buffer = feed([data])

    assert found == lines
    assert buffer.has_rest is has_rest


@every_case
def test_bytes_that_come_one_by_one_are_joined(data: bytes, lines: list[bytes], has_rest: bool) -> None:  # noqa: FBT001
    """The slowest peer is understood as well as the fastest."""
    found, buffer = feed(bytes([byte]) for byte in data)

    assert found == lines
    assert buffer.has_rest is has_rest


@every_case
def test_what_comes_behind_waits_for_its_end(data: bytes, lines: list[bytes], has_rest: bool) -> None:  # noqa: FBT001
    """A line is given once its end is there, and no earlier."""
    del has_rest
    found, buffer = feed([b"first\n" + data])
    behind = data.rpartition(b"\n")[2]

    assert found == [b"first", *lines]
    assert list(buffer.feed(b"\nlast\n")) == [behind, b"last"]
    assert not buffer.has_rest


def test_nothing_fed_is_nothing_begun() -> None:
    """A fresh buffer is empty, and an empty piece changes nothing."""
    buffer = LineBuffer()

    assert not buffer.has_rest
    assert list(buffer.feed(b"")) == []
    assert not buffer.has_rest


def test_whoever_takes_not_all_lines_does_not_spoil_the_next() -> None:
    """What is left behind is lost, and nothing of what was taken comes again."""
    buffer = LineBuffer()
    list(buffer.feed(b"on"))
    taken = next(buffer.feed(b"e\ntwo\nthr"))

    assert (taken, list(buffer.feed(b"ee\n"))) == (b"one", [b"three"])


@given(pieces)
def test_where_the_bytes_are_cut_does_not_matter(pieces: list[bytes]) -> None:
    """The lines are those of the whole, in order, and nothing is lost or doubled."""
    *lines, rest = b"".join(pieces).split(b"\n")
    found, buffer = feed(pieces, max_line=1_000)

    assert found == lines
    assert buffer.has_rest == (rest != b"")


@given(pieces, st.integers(0, 12))
def test_where_the_bytes_are_cut_does_not_decide_what_is_too_long(pieces: list[bytes], max_line: int) -> None:
    """Either way the lines before the long one are given, and the long one is refused."""
    whole = b"".join(pieces)
    lines = whole.split(b"\n")
    too_long = next((at for at, line in enumerate(lines) if len(line) > max_line), None)
    expected = lines[:-1] if too_long is None else lines[:too_long]

    assert feed_until_refused(pieces, max_line) == (expected, too_long is not None)
    assert feed_until_refused([whole], max_line) == (expected, too_long is not None)


@pytest.mark.parametrize("end", [b"", b"\n", b"\nb\n"], ids=["unfinished", "finished", "with another behind"])
def test_a_line_too_long_is_refused(end: bytes) -> None:
    """Whether its end has come or not; the message names the bound."""
    with pytest.raises(LineTooLong, match="a line may hold 1,048,576 bytes"):
        feed([b"x" * (MAX_LINE + 1) + end], MAX_LINE)


def test_a_line_that_never_ends_is_refused_at_the_first_byte_too_many() -> None:
    """No peer fills the memory: what is kept never exceeds a line."""
    buffer = LineBuffer(10)
    list(buffer.feed(b"x" * 9))
    list(buffer.feed(b"x"))

    with pytest.raises(LineTooLong):
        list(buffer.feed(b"x"))


def test_each_line_has_the_whole_bound() -> None:
    """What came before a line does not count against it."""
    found, _ = feed([b"x" * 10 + b"\n" + b"y" * 5, b"y" * 5 + b"\n" + b"z" * 10])

    assert found == [b"x" * 10, b"y" * 10]


def test_a_line_of_the_wire_holds_a_mebibyte() -> None:
    """The bound that the protocol page names, and room in it for a value and what stands around that."""
    assert MAX_LINE == 2**20
    assert list(LineBuffer().feed(b"x" * MAX_LINE + b"\n")) == [b"x" * MAX_LINE]
    assert 0 < MAX_VALUE < MAX_LINE


@pytest.mark.parametrize(
    ("before", "data", "start", "line"),
    [
        (b"", b"abc\n", 0, b"abc"),
        (b"", b"\n", 0, b""),
        (b"abc\n", b"0123456789\n", 0, b"0123456789"),
        (b"", b"0123456789x\n", 0, None),
        (b"", b"abc\n0123456789\ndef", 4, b"0123456789"),
        (b"", b"abc\n0123456789x\n", 4, None),
        (b"", b"abc", 0, None),
        (b"", b"abc\n", 4, None),
        (b"", b"abc\ndef", 4, None),
        (b"ab", b"c\n", 0, None),
        (b"ab", b"\n", 0, None),
    ],
)
def test_a_line_that_is_whole_is_known_at_sight(before: bytes, data: bytes, start: int, line: bytes | None) -> None:
    """Nothing is kept of it, and what `feed` has kept is left."""
    _, buffer = feed([before] if before else [])
    kept = buffer.has_rest

    assert buffer.whole_line(data, start) == line
    assert buffer.has_rest == kept
