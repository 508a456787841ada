"""Messages and lines: both ways, and every way that a line can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from dtm.protocol import messages
from dtm.protocol.codec import BadLine, ErrorCode, decode_from_client, decode_from_server, encode, encode_all
from dtm.protocol.framing import LineBuffer
from dtm.protocol.messages import ClientMessage, Message, ServerMessage, SubmittedTask
from tests.protocol.examples import FROM_CLIENT, FROM_SERVER
from tests.protocol.generated import any_of

Decoder = Callable[[bytes], Message]

CASES: list[tuple[Message, Decoder]] = [
    *((message, decode_from_client) for message in FROM_CLIENT),
    *((message, decode_from_server) for message in FROM_SERVER),
]

NAMES = [f"{number} {type(message).__name__}" for number, (message, _) in enumerate(CASES)]

WELCOME = next(message for message in FROM_SERVER if isinstance(message, messages.RegisterResponse))

every_message = pytest.mark.parametrize(("message", "decode"), CASES, ids=NAMES)
every_decoder = pytest.mark.parametrize("decode", [decode_from_client, decode_from_server])


def refused(decode: Decoder, line: bytes) -> BadLine:
    """Decode a line that is no message, and give why not."""
    with pytest.raises(BadLine) as caught:
        decode(line)
    return caught.value


# --- both ways -------------------------------------------------------------------------------------------------


@every_message
def test_a_message_comes_back_as_it_was(message: Message, decode: Decoder) -> None:
    """What one side writes is what the other side reads, in every field."""
    line = encode(message)

    assert decode(line.removesuffix(b"\n")) == message
    assert encode(decode(line.removesuffix(b"\n"))) == line


@pytest.mark.parametrize("message", [message for message, _ in CASES], ids=NAMES)
def test_a_message_is_one_json_object_on_one_line(message: Message) -> None:
    """A person with `nc` and a program with any JSON library can read it."""
    line = encode(message)
    read = json.loads(line)

    assert list(LineBuffer().feed(line)) == [line[:-1]]
    assert read["type"] == type(message).__name__


@pytest.mark.parametrize(("union", "examples"), [(ClientMessage, FROM_CLIENT), (ServerMessage, FROM_SERVER)])
def test_every_message_is_tried(union: Any, examples: list[Message]) -> None:
    """A new message needs its example here."""
    assert {type(example) for example in examples} == set(get_args(union))


@every_message
def test_fields_of_a_later_version_are_ignored(message: Message, decode: Decoder) -> None:
    """An older peer understands a newer one that only adds."""
    later = encode(message)[:-2].replace(b"{", b'{"since_v2":{"a":[1e5,"x"]},', 1) + b',"":null}'

    assert decode(later) == message


@every_message
def test_the_order_of_the_fields_does_not_matter(message: Message, decode: Decoder) -> None:
    """The type may come last."""
    read = json.loads(encode(message))
    backwards = json.dumps(dict(reversed(read.items()))).encode()

    assert decode(backwards) == decode(json.dumps(read).encode())


@every_message
def test_neither_side_takes_the_others_messages(message: Message, decode: Decoder) -> None:
    """A server that is sent a server's message does not follow it."""
    other = decode_from_server if decode is decode_from_client else decode_from_client
    error = refused(other, encode(message))

    assert error.code is ErrorCode.BAD_MESSAGE
    assert not error.is_fatal


TYPES = [
    *((kind, decode_from_client) for kind in get_args(ClientMessage)),
    *((kind, decode_from_server) for kind in get_args(ServerMessage)),
]


def _read(pieces: Iterable[bytes], decode: Decoder) -> tuple[list[Message], bool]:
    """Give the messages that come in pieces, and whether another one has begun."""
    lines = LineBuffer()
    read = [decode(line) for piece in pieces for line in lines.feed(piece)]
    return read, lines.has_rest


def _in_all_ways(message: Message, decode: Decoder) -> None:
    line = encode(message)

    assert _read([line], decode) == ([message], False)
    assert _read((bytes([byte]) for byte in line + line), decode) == ([message, message], False)
    assert _read([line + line[:-1]], decode) == ([message], True)
    assert _read([line, line[:1], line[1:] + line], decode) == ([message] * 3, False)


@every_message
def test_however_a_message_arrives_it_is_the_same(message: Message, decode: Decoder) -> None:
    """Whole, byte by byte, with another one begun behind it, and with others around it."""
    _in_all_ways(message, decode)


@pytest.mark.parametrize(("kind", "decode"), TYPES, ids=lambda value: value.__name__)
@given(data=st.data())
@settings(max_examples=30)
def test_so_is_whatever_it_may_hold(kind: type[Message], decode: Decoder, data: st.DataObject) -> None:
    """Any message of each type that can be made comes back as it is, its payload to the byte."""
    message = data.draw(any_of(kind))

    _in_all_ways(message, decode)
    assert encode(decode(encode(message)[:-1])) == encode(message)


def test_many_messages_are_as_many_lines() -> None:
    """One piece for one write, to be read as if each had come alone."""
    assert encode_all(FROM_SERVER) == b"".join(map(encode, FROM_SERVER))
    assert encode_all([]) == b""


def test_json_that_was_written_on_several_lines_goes_out_on_one() -> None:
    """Whoever submits a file as it is does not tear its own message apart, nor the text inside it."""
    task = SubmittedTask("add", Raw(b'{\n  "a": "x\\ny",\r\n  "b": 1e999\n}'))
    message = messages.Submit(1, [task])
    line = encode(message)

    assert list(LineBuffer().feed(line)) == [line[:-1]]
    assert b'"payload":{"a":"x\\ny","b":1e999}' in line
    assert encode_all([message, message]) == 2 * line


@pytest.mark.parametrize(
    ("line", "payload"),
    [
        (b'"payload": [1,  2]', b"[1,  2]"),
        (b'"payload":1e999', b"1e999"),
        (b'"payload":123456789012345678901234567890.10', b"123456789012345678901234567890.10"),
        (b'"payload":"\\u0000\\n"', b'"\\u0000\\n"'),
        (b'"payload":{"a":1,"a":2}', b'{"a":1,"a":2}'),
        (b'"payload":-0.0E+10', b"-0.0E+10"),
        ('"payload":"\u2028\x7f\x85\ufeff\U0001f4a3"'.encode(), '"\u2028\x7f\x85\ufeff\U0001f4a3"'.encode()),
        (b'"payload":1,"payload":2', b"2"),
        (b'"payload":null', b"null"),
        (b'"x":0', b"null"),
    ],
)
def test_a_payload_passes_as_it_was_written(line: bytes, payload: bytes) -> None:
    """No number is rounded and no key dropped on the way; what is left out is null."""
    message = decode_from_client(b'{"type":"Submit","ref":1,"tasks":[{"kind":"add",%b}]}' % line)

    assert isinstance(message, messages.Submit)
    assert bytes(message.tasks[0].payload) == payload


# --- bad JSON: fatal -------------------------------------------------------------------------------------------

BAD_JSON = {
    "nothing": b"",
    "a space": b" ",
    "no JSON": b"hello",
    "half a message": b'{"type":"Query","ref":1,"ids":[',
    "one quote too few": b'{"type":"Goodbye}',
    "something behind": b'{"type":"Goodbye"} {}',
    "a comma too many": b'{"type":"Goodbye",}',
    "single quotes": b"{'type':'Goodbye'}",
    "a NUL": b'{"type":"Goodbye"}\0',
    "a byte order mark": b'\xef\xbb\xbf{"type":"Goodbye"}',
    "a byte order mark before nothing": b"\xef\xbb\xbf",
    "a wrong field, then no JSON": b'{"type":"Query","ref":"seven","ids":[NaN]}',
    "an unknown type, then no end": b'{"type":"Nope","ref":7',
    "a wrong field, then a lone surrogate": b'{"type":"Query","ref":"seven","ids":["\\ud800"]}',
    "UTF-16": '{"type":"Goodbye"}'.encode("utf-16"),
    "a control character in a text": b'{"type":"Query\x01","ref":1,"ids":[]}',
    "NaN": b'{"type":"Query","ref":NaN,"ids":[]}',
    "Infinity": b'{"type":"PingRequest","timestamp":Infinity}',
    "NaN in a payload": b'{"type":"Submit","ref":1,"tasks":[{"kind":"a","payload":NaN}]}',
    "a leading zero": b'{"type":"Query","ref":01,"ids":[]}',
    "a lone surrogate": b'{"type":"Submit","ref":1,"tasks":[{"kind":"\\ud800"}]}',
    "a lone surrogate in a payload": b'{"type":"Submit","ref":1,"tasks":[{"kind":"a","payload":"\\ud800"}]}',
    "half a pair": b'{"type":"Submit","ref":1,"tasks":[{"kind":"\\ud83d\\u0041"}]}',
    "invalid UTF-8": b'{"type":"Submit","ref":1,"tasks":[{"kind":"\xff"}]}',
    "invalid UTF-8 in a payload": b'{"type":"Submit","ref":1,"tasks":[{"kind":"a","payload":["\xff"]}]}',
    "invalid UTF-8 in an unknown field": b'{"type":"Goodbye","x":"\xff"}',
    "invalid UTF-8 in an unknown name": b'{"type":"Goodbye","\xff":1}',
    "an overlong slash in a value": b'{"type":"Result","task_id":1,"assignment":1,"ok":true,"value":"\xc0\xaf"}',
    "invalid UTF-8 behind a wrong field": b'{"type":"Query","ref":"seven","x":"\xff"}',
    "a surrogate in UTF-8": b'{"type":"Submit","ref":1,"tasks":[{"kind":"\xed\xa0\x80"}]}',
    "an overlong slash": b'{"type":"Submit","ref":1,"tasks":[{"kind":"\xc0\xaf"}]}',
    "invalid UTF-8 as a type": b'{"type":"\xff"}',
    "deep objects": b'{"a":' * 200_000,
    "deep lists": b'{"type":"Goodbye","a":' + b"[" * 200_000,
    "a deep payload": b'{"type":"Submit","ref":1,"tasks":[{"kind":"a","payload":' + b"[" * 200_000,
}


@pytest.mark.parametrize("line", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json_ends_the_conversation(line: bytes) -> None:
    """A peer that does not write JSON is not understood further on either."""
    error = refused(decode_from_client, line)

    assert error.code is ErrorCode.BAD_JSON
    assert error.is_fatal


# --- JSON, but no message: the conversation goes on ------------------------------------------------------------


def task(**fields: object) -> dict[str, object]:
    """A `Submit` with the reference 7 and one task."""
    return {"type": "Submit", "ref": 7, "tasks": [{"kind": "a", **fields}]}


def dumped(*values: tuple[str, Any]) -> dict[str, bytes]:
    """Write the bad message of each name as a line."""
    return {name: json.dumps(value).encode() for name, value in values}


WITH_REF = {
    **dumped(
        ("an unknown type", {"type": "Nope", "ref": 7}),
        ("a type that is no text", {"type": 7, "ref": 7}),
        ("no type", {"ref": 7}),
        ("a field missing", {"type": "Submit", "ref": 7}),
        ("a list that is none", {"type": "Submit", "ref": 7, "tasks": {}}),
        ("no tasks", {"type": "Submit", "ref": 7, "tasks": []}),
        ("too many tasks", {"type": "Submit", "ref": 7, "tasks": [{"kind": "a"}] * 10_001}),
        ("a task without a kind", {"type": "Submit", "ref": 7, "tasks": [{}]}),
        ("a flag that is none", {"type": "Submit", "ref": 7, "tasks": [{"kind": "a"}], "notify": 1}),
        ("an empty kind", task(kind="")),
        ("a long kind", task(kind="a" * 256)),
        ("a kind that is none", task(kind=None)),
        ("an empty key", task(key="")),
        ("a long key", task(key="a" * 256)),
        ("a priority above", task(priority=2**31)),
        ("a priority below", task(priority=-(2**31) - 1)),
        ("a priority of 2**63", task(priority=2**63)),
        ("a broken priority", task(priority=1.5)),
        ("a priority that is true", task(priority=True)),
        ("a negative delay", task(delay=-1)),
        ("a delay of a century and a day", task(delay=(100 * 365 + 1) * 86_400)),
        ("a delay as text", task(delay="1")),
        ("a negative instant", task(run_at=-1)),
        ("an instant in milliseconds", task(run_at=1_700_000_000_000)),
        ("no retry at all", task(max_retries=0)),
        ("too many retries", task(max_retries=10**6 + 1)),
        ("a negative timeout", task(timeout=-0.5)),
        ("an id of 2**63", {"type": "Query", "ref": 7, "ids": [2**63]}),
        ("a negative id", {"type": "Query", "ref": 7, "ids": [-1]}),
        ("a broken id", {"type": "Query", "ref": 7, "ids": [1.5]}),
        ("too many ids", {"type": "Query", "ref": 7, "ids": [1] * 10_001}),
        ("a command that is none", {"type": "Admin", "ref": 7, "command": None}),
    ),
    "a delay of 1e999": b'{"type":"Submit","ref":7,"tasks":[{"kind":"a","delay":1e999}]}',
    "a priority of 5,000 digits": b'{"type":"Submit","ref":7,"tasks":[{"kind":"a","priority":%b}]}' % (b"1" * 5_000),
    "a timeout of 5,000 digits": b'{"type":"Submit","ref":7,"tasks":[{"kind":"a","timeout":%b}]}' % (b"1" * 5_000),
}

WITHOUT_REF = {
    **dumped(
        ("a list", []),
        ("a number", 1),
        ("a text", "Goodbye"),
        ("null", None),
        ("an object", {}),
        ("a reference of 2**63", {"type": "Query", "ref": 2**63, "ids": []}),
        ("a reference below -2**63", {"type": "Query", "ref": -(2**63) - 1, "ids": []}),
        ("a reference as text", {"type": "Query", "ref": "7", "ids": []}),
        ("a broken reference", {"type": "Query", "ref": 7.5, "ids": []}),
        ("no reference", {"type": "Query", "ids": []}),
        ("an empty name", {"type": "Register", "name": "", "kinds": [], "capacity": 1}),
        ("a long name", {"type": "Register", "name": "a" * 256, "kinds": [], "capacity": 1}),
        ("too many kinds", {"type": "Register", "name": "a", "kinds": ["a"] * 1_001, "capacity": 1}),
        ("an empty kind of a client", {"type": "Register", "name": "a", "kinds": [""], "capacity": 1}),
        ("a negative capacity", {"type": "Capacity", "capacity": -1}),
        ("a huge capacity", {"type": "Capacity", "capacity": 100_001}),
        ("an assignment of 2**63", {"type": "Release", "task_id": 1, "assignment": 2**63}),
        ("a negative assignment", {"type": "Release", "task_id": 1, "assignment": -1}),
        ("an ok that is none", {"type": "Result", "task_id": 1, "assignment": 1, "ok": "yes"}),
        ("a failure as text", {"type": "Result", "task_id": 1, "assignment": 1, "ok": False, "error": "boom"}),
        ("a timestamp with something in it", {"type": "PingRequest", "timestamp": {"a": 1}}),
        ("a timestamp of 2**63", {"type": "PingRequest", "timestamp": 2**63}),
        ("a deep timestamp", {"type": "PingRequest", "timestamp": [[[[]]]]}),
    ),
    "two types": b'{"type":"Goodbye","type":"Capacity","capacity":1}',
    "a timestamp of 1e999": b'{"type":"PingRequest","timestamp":1e999}',
    "a reference of 1e999": b'{"type":"Query","ref":1e999,"ids":[]}',
}


@pytest.mark.parametrize("line", WITH_REF.values(), ids=WITH_REF.keys())
def test_a_wrong_message_is_refused_under_its_reference(line: bytes) -> None:
    """Whoever sent it can tell which of its messages it was, and goes on."""
    error = refused(decode_from_client, line)

    assert (error.code, error.ref) == (ErrorCode.BAD_MESSAGE, 7)
    assert not error.is_fatal


@pytest.mark.parametrize("line", WITHOUT_REF.values(), ids=WITHOUT_REF.keys())
def test_a_wrong_message_without_a_reference_is_refused_without(line: bytes) -> None:
    """No reference is made up, and one that is itself wrong is not echoed."""
    error = refused(decode_from_client, line)

    assert error.code is ErrorCode.BAD_MESSAGE
    assert error.ref is UNSET
    assert not error.is_fatal


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"SubmitResponse","ref":1,"ids":[9223372036854775808],"duplicates":[]}',
        b'{"type":"Cancel","task_id":-1,"assignment":1}',
        b'{"type":"Cancel","task_id":1,"assignment":18446744073709551616}',
        b'{"type":"Error","code":"refused","message":"","ref":9223372036854775808}',
        b'{"type":"Task","task_id":1,"assignment":1,"kind":"A","payload":1,"retry_count":0,"timeout":1e999}',
        *(
            encode(WELCOME)[:-1].replace(b'"heartbeat_interval":10.0', b'"heartbeat_interval":' + interval)
            for interval in (b"0", b"-1", b"1e300", b"null")
        ),
    ],
)
def test_a_server_too_must_say_what_can_be(line: bytes) -> None:
    """A number that no store has would come back to the next server; an interval of 0 would be pings without end."""
    assert refused(decode_from_server, line).code is ErrorCode.BAD_MESSAGE


@every_decoder
def test_the_refusal_says_what_was_wanted_and_what_was_found(decode: Decoder) -> None:
    """With the place in the message, and enough of the line to know it again."""
    assert str(refused(decode, b'{"type":"Nope"}')) == "Invalid value 'Nope' - at `$.type` in '{\"type\":\"Nope\"}'"
    assert "wanted one JSON object a line, found 'hello'" in str(refused(decode, b"hello"))


@pytest.mark.parametrize(
    "line",
    [
        b"x\r\n\x1b[2J\xff\xe2\x80\xa8" + b"y" * 500,
        b'{"type":"' + b"z" * 500 + b'"}',
        b'{"type":"\\u001b[2J\\u202e","x":"' + b"z" * 500 + b'"}',
    ],
)
def test_the_refusal_quotes_a_line_safely(line: bytes) -> None:
    """It goes into logs and to terminals, so it is short and has no line end or escape of its own."""
    message = str(refused(decode_from_client, line))

    assert message.isprintable()
    assert len(message) < 800
    assert "…" in message


def test_the_refusal_quotes_a_line_as_it_was_written() -> None:
    """Nothing is escaped twice: a backslash of the line is one backslash, and a stray byte is one escape."""
    assert """found '{"a":"\\ud800\\"'""" in str(refused(decode_from_client, b'{"a":"\\ud800\\"'))
    assert "found '\\xff\\x1b\\u2028é'" in str(refused(decode_from_client, b"\xff\x1b\xe2\x80\xa8\xc3\xa9"))


# --- anything at all -------------------------------------------------------------------------------------------

lines = st.sampled_from([(encode(message)[:-1], decode) for message, decode in CASES])
PIECES = [
    b"",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"9223372036854775808",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"9" * 5_000,
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xff"',
    b"\0",
    b"\n",
    b"{",
    b"}",
    b"[" * 2_000,
    b'{"a":' * 2_000,
    b'"type"',
]


@st.composite
def mutants(draw: st.DrawFn) -> tuple[bytes, Decoder]:
    """A valid line to which something happened: cut, spliced, a bit turned, a value replaced."""
    line, decode = draw(lines)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(line)))
        stop = draw(st.integers(start, min(len(line), start + 12)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=3) | lines.map(lambda other: other[0]))
        line = line[:start] + piece + line[stop:]
    return line, decode


def _answer(decode: Decoder, line: bytes) -> Message:
    """Decode anything, and give what comes of it: the message, or the refusal as it is sent."""
    try:
        return decode(line)
    except BadLine as error:
        return messages.Error(error.code, str(error), error.ref)


@given(mutants())
def test_a_damaged_line_is_a_message_or_a_refusal(mutant: tuple[bytes, Decoder]) -> None:
    """Nothing else ever comes out of the decoder."""
    line, decode = mutant
    answer = _answer(decode, line)

    assert encode(answer).count(b"\n") == 1


@every_decoder
@given(st.binary())
@example(b"[" * 200_000)
@example(b"9" * 5_000)
def test_any_bytes_are_a_message_or_a_refusal(decode: Decoder, line: bytes) -> None:
    """A stranger on the port, a web browser, a broken link: all are answered."""
    answer = _answer(decode, line)

    assert encode(answer).count(b"\n") == 1


def _deeper(frames: int, run: Callable[[], bytes]) -> bytes:
    return run() if frames == 0 else _deeper(frames - 1, run)


@pytest.mark.parametrize(
    "field", [b'"type":"PingRequest","timestamp":', b'"type":"Result","task_id":1,"assignment":2,"ok":true,"value":']
)
def test_what_can_be_read_can_be_written_further_down(field: bytes) -> None:
    """However deep a value is nested: if it passes, it passes on, from wherever in the program it is sent."""
    for nesting in range(0, 1_200, 7):
        answer = _answer(decode_from_client, b"{%b%b%b}" % (field, b"[" * nesting, b"]" * nesting))

        assert _deeper(50, partial(encode, answer)).endswith(b"}\n")
