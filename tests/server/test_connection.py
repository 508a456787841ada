"""A connection: what a server answers to lines that are wrong, and how a conversation ends."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dtm.protocol.framing import MAX_LINE, MAX_VALUE
from dtm.protocol.values import MAX_DEPTH
from tests.server.live import Live, Peer, failure, registration, submission, success

PING = b'{"type":"PingRequest","timestamp":1}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"\xef\xbb\xbf",
        b"NaN",
        b'{"type":"PingRequest"',
        b'{"type":"PingRequest","timestamp":"\\ud800"}',
        b'{"type":"PingRequest","timestamp":"\xff"}',
        b'{"type":"Submit","ref":1,"tasks":[{"kind":"A","payload":"\xff"}]}',
        b'{"type":"Goodbye","since_v2":"\xff"}',
        b'{"type":"Query","ref":"seven","ids":[NaN]}',
        b'{"type":"Submit","ref":1,"tasks":[{"kind":"A","payload":' + b"[" * 200_000,
    ],
    ids=["word", "bom", "nan", "torn", "surrogate", "latin-1", "payload", "unknown", "later", "deep"],
)
async def test_a_line_that_is_no_json_is_refused_and_ends_the_connection(live: Live, peer: Peer, line: bytes) -> None:
    """What follows it cannot be trusted: it is not even looked at."""
    await peer.say_bytes(line + b"\n" + PING)

    (answer,) = await peer.hear_all()
    assert (answer["type"], answer["code"]) == ("Error", "bad-json")
    assert not live.logged("connection.failed")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"type":"Hello"}', "'Hello'"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `type`"),
        (b'{"type":"PingResponse"}', "'PingResponse'"),
        (b'{"type":"Register","name":"w","kinds":[],"capacity":-1}', "$.capacity"),
        (b'{"type":"Register","name":"","kinds":[],"capacity":1}', "$.name"),
        (b'{"type":"Register","name":"w","kinds":[1],"capacity":1}', "$.kinds[0]"),
        (b'{"type":"Result","task_id":1,"assignment":1}', "`ok`"),
        (b'{"type":"Release","task_id":1}', "`assignment`"),
        (b'{"type":"Capacity","capacity":9223372036854775808}', "$.capacity"),
        (b'{"type":"PingRequest","timestamp":1e999}', "$.timestamp"),
        (b'{"type":"PingRequest","timestamp":9223372036854775808}', "$.timestamp"),
    ],
)
async def test_a_wrong_message_is_refused_and_the_connection_goes_on(peer: Peer, line: bytes, complaint: str) -> None:
    """The answer says what is wrong with it and quotes it."""
    await peer.say_bytes(line + b"\n" + PING)

    answer = await peer.expect("Error", code="bad-message", ref=None)
    assert complaint in answer["message"]
    assert line.decode()[:30] in answer["message"].replace('\\"', '"')
    await peer.expect("PingResponse", timestamp=1)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"type":"Submit","ref":-5,"tasks":[]}', "$.tasks"),
        (b'{"type":"Submit","ref":-5,"tasks":[{"kind":""}]}', "$.tasks[0].kind"),
        (b'{"type":"Submit","ref":-5,"tasks":[{"kind":"A"},{"kind":"A","max_retries":0}]}', "$.tasks[1].max_retries"),
        (b'{"type":"Submit","tasks":[{"kind":"A","delay":-1}],"ref":-5}', "$.tasks[0].delay"),
        (b'{"type":"Submit","ref":-5,"tasks":[{"kind":"A","priority":2147483648}]}', "$.tasks[0].priority"),
        (b'{"type":"Submit","ref":-5,"tasks":[{"kind":"A","key":7}]}', "$.tasks[0].key"),
        (b'{"type":"Submit","ref":-5,"tasks":[{"kind":"A","delay":1,"run_at":1}]}', "delay or run_at"),
        (b'{"type":"Query","ref":-5,"ids":["1"]}', "$.ids[0]"),
        (b'{"type":"Admin","ref":-5,"command":1}', "$.command"),
    ],
)
async def test_the_ref_of_a_wrong_request_comes_back(peer: Peer, line: bytes, complaint: str) -> None:
    """So that its sender knows which of its requests was refused; also if the ref stands behind the fault."""
    await peer.say_bytes(line + b"\n" + PING)

    answer = await peer.expect("Error", code="bad-message", ref=-5)
    assert complaint in answer["message"]
    await peer.expect("PingResponse")


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["unfinished", "finished"])
async def test_a_line_too_long_is_refused_and_ends_the_connection(peer: Peer, end: bytes) -> None:
    """Whether its end has come or not; the answer arrives before the end."""
    await peer.say_bytes(PING + b"x" * (MAX_LINE + 1) + end)

    await peer.expect("PingResponse")
    (answer,) = await peer.hear_all()
    assert (answer["type"], answer["code"]) == ("Error", "line-too-long")


async def test_the_refusal_arrives_though_the_peer_says_much_more(peer: Peer) -> None:
    """A connection that is closed on unread bytes is reset, and a reset takes the answer with it."""
    async with anyio.create_task_group() as group:

        async def say_much() -> None:
            try:
                await peer.say_bytes(b"x" * (50 * MAX_LINE))
            except anyio.BrokenResourceError:
                pass

        group.start_soon(say_much)
        answer = await peer.hear()

    assert answer["code"] == "line-too-long"


async def test_the_longest_line_is_taken(peer: Peer) -> None:
    """A line may hold exactly its maximum."""
    line = PING[:-1]

    await peer.say_bytes(line + b" " * (MAX_LINE - len(line)) + b"\n")

    await peer.expect("PingResponse", timestamp=1)


async def test_blank_lines_are_passed_over(peer: Peer) -> None:
    """Somebody at a keyboard presses return, or their lines end in CR LF."""
    await peer.say_bytes(b"\n\r\n \t\n" + PING + b"\n" + PING)

    await peer.expect("PingResponse", timestamp=1)
    await peer.expect("PingResponse", timestamp=1)


def nested(levels: int) -> Any:
    """Give lists and objects in turn, so many inside one another."""
    value: Any = [] if levels % 2 else {}
    for level in range(levels - 1):
        value = {"a": value} if (level + levels) % 2 else [value]
    return value


async def test_a_value_as_deep_as_may_be_comes_back(peer: Peer) -> None:
    """As a payload, as a result and in the answers around both; any JSON library reads them."""
    value = nested(MAX_DEPTH)
    await peer.register("A")
    (task_id,) = await peer.submit({"kind": "A", "payload": value})
    task = await peer.expect("Task", payload=value)
    await peer.say(success(task, value))
    await peer.expect("ResultResponse", status="accepted")

    (status,) = await peer.query(task_id)
    assert status is not None
    assert status["value"] == value


@pytest.mark.parametrize("what", ["payload", "value"])
async def test_a_value_too_deep_is_refused_and_named(peer: Peer, what: str) -> None:
    """The request is refused under its reference and the connection goes on: else it would be sent again and again."""
    value = nested(MAX_DEPTH + 1)
    await peer.register("A")
    if what == "payload":
        answer = await peer.ask(submission({"kind": "A", "payload": value}, ref=3))
    else:
        answer = await peer.ask(success({"task_id": 1, "assignment": 1}, value))

    assert (answer["type"], answer["code"]) == ("Error", "bad-message")
    assert f"wanted a {what} nested at most 128 deep" in answer["message"]
    assert answer.get("ref") == (3 if what == "payload" else None)


@pytest.mark.parametrize("what", ["payload", "value"])
async def test_a_value_too_large_is_refused_and_named(peer: Peer, what: str) -> None:
    """A line could hold it, but not the answers that it would travel in."""
    large = "x" * MAX_VALUE
    await peer.register("A")
    if what == "payload":
        answer = await peer.ask(submission({"kind": "A", "payload": large}, ref=3))
    else:
        answer = await peer.ask(success({"task_id": 1, "assignment": 1}, large))

    assert (answer["type"], answer["code"]) == ("Error", "payload-too-large")
    assert what in answer["message"]
    assert answer.get("ref") == (3 if what == "payload" else None)


@pytest.mark.parametrize(
    "message",
    [
        success({"task_id": 1, "assignment": 1}),
        failure({"task_id": 1, "assignment": 1}),
        {"type": "Release", "task_id": 1, "assignment": 1},
        {"type": "Capacity", "capacity": 1},
    ],
    ids=["success", "failure", "release", "capacity"],
)
async def test_a_workers_message_needs_a_registration(peer: Peer, message: dict[str, object]) -> None:
    """Nobody would know whose word it is."""
    answer = await peer.ask(message)

    assert (answer["type"], answer["code"]) == ("Error", "not-registered")
    assert (await peer.register("A"))["resumed"] == []


@pytest.mark.parametrize("timestamp", [None, 0, -1.5, "now", 2**63 - 1, "a\0b"])
async def test_a_ping_comes_back_as_it_is(peer: Peer, timestamp: object) -> None:
    """Without a registration too."""
    await peer.say({"type": "PingRequest", "timestamp": timestamp})

    await peer.expect("PingResponse", timestamp=timestamp)


async def test_unknown_fields_are_passed_over(peer: Peer) -> None:
    """A newer client may say more."""
    await peer.say({"type": "PingRequest", "timestamp": 3, "colour": "red"})

    await peer.expect("PingResponse", timestamp=3)


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
async def test_lines_may_come_in_any_pieces(live: Live, piece: int) -> None:
    """A line ends where its newline is, whatever the network does; blanks and CR around it do not matter."""
    data = PING + b'  {"type":"PingRequest","timestamp":2} \r\n' + PING
    async with live.dial() as peer:
        for start in range(0, len(data), piece):
            await peer.say_bytes(data[start : start + piece])

        assert [(await peer.hear())["timestamp"] for _ in range(3)] == [1, 2, 1]


async def test_a_peer_that_has_said_everything_still_hears_the_answers(peer: Peer) -> None:
    """`nc` with a file for its input: all is answered, then the connection ends."""
    await peer.say(registration("A"), submission({"kind": "A"}, ref=1), submission({"kind": "B"}, ref=2))
    await peer.end_input()

    heard = await peer.hear_all()
    assert [(message["type"], message.get("ref")) for message in heard][:3] == [
        ("RegisterResponse", None),
        ("SubmitResponse", 1),
        ("SubmitResponse", 2),
    ]


async def test_a_last_result_is_answered_too(peer: Peer) -> None:
    """Whoever says it and no more learns whether it counted."""
    await peer.register("A")
    await peer.submit({"kind": "A"})
    task = await peer.hear()
    await peer.say(success(task))
    await peer.end_input()

    (answer,) = await peer.hear_all()
    assert (answer["type"], answer["status"]) == ("ResultResponse", "accepted")


async def test_one_who_says_one_thing_after_the_other_is_heard_each_time(live: Live, peer: Peer) -> None:
    """Also what is wrong, in pieces or empty; a goodbye is the last that is heard."""
    await peer.say_bytes(PING)
    await peer.expect("PingResponse")
    await peer.say_bytes(b"\n")
    await peer.say_bytes(b'{"type":"Hello"}\n')
    await peer.expect("Error", code="bad-message")
    await peer.say_bytes(PING[:9])
    await anyio.sleep(0.01)  # into a read of its own
    await peer.say_bytes(PING[9:])
    await peer.expect("PingResponse")
    await peer.say(submission({"kind": "A"}))
    (task,) = (await peer.expect("SubmitResponse"))["ids"]
    await peer.say({"type": "Query", "ref": 2, "ids": [task]})
    await peer.expect("QueryResponse")
    await peer.say_bytes(PING)
    await peer.expect("PingResponse")
    await peer.say({"type": "Goodbye"})

    assert await peer.hear_all() == []
    assert not live.logged("connection.failed")


async def test_an_unfinished_last_line_is_no_message(live: Live, peer: Peer) -> None:
    """It may be the beginning of another one."""
    await peer.say_bytes(b'{"type":"Submit","ref":1,"tasks":[{"kind":"A"}]}')
    await peer.end_input()

    assert await peer.hear_all() == []
    with live.reader() as reader:
        assert reader.newest_tasks(state=None, kind=None, limit=1) == []


async def test_a_connection_that_fails_leaves_the_others(live: Live, peer: Peer, other: Peer) -> None:
    """Many that break off in the middle do not concern those who stay."""
    await peer.register("A")
    for _ in range(20):
        async with live.dial() as torn:
            await torn.say_bytes(b'{"type":"Submit","ref":1,"ta')
    await other.submit({"kind": "A"})

    await peer.expect("Task")
    assert not live.logged("connection.failed")


async def test_requests_far_ahead_of_their_answers_are_all_answered(peer: Peer, other: Peer) -> None:
    """Whoever asks for much at once is not cut off for it: it is read again once it has read the answers."""
    await peer.register("A")
    (task_id,) = await peer.submit({"kind": "A"})
    await peer.say(success(await peer.hear(), "x" * 900_000))
    await peer.expect("ResultResponse")
    requests = [{"type": "Query", "ref": ref, "ids": [task_id]} for ref in range(100)]
    await peer.say(*requests)
    for _ in requests:
        # The store is asked in turn: by now as many of the peer's requests have been answered, or are held back.
        await other.query(task_id + 1)

    assert [(await peer.expect("QueryResponse"))["ref"] for _ in requests] == list(range(100))
