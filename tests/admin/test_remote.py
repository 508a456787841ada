"""Commands through the server that holds the store: a real listener that answers by a script."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from msgspec import Raw

from dtm.protocol import messages
from dtm.protocol.codec import encode
from dtm.protocol.framing import MAX_ANSWER
from dtm.storage.batch import Clear, Selection
from dtm.storage.lock import Holder
from dtm.storage.receipt import Resolved
from dtm_admin.approach import address_of, to_holder
from dtm_admin.clock import utc_now
from dtm_admin.errors import CommandRefused, ServerUnreachable
from dtm_admin.gateway import changing
from dtm_admin.remote import Conversation, conversation
from tests.admin.scene import SECRET, Admin, FakeServer, Outcome, Scene

HOLDER = Holder(4711, "127.0.0.1", 1, SECRET)
ADDRESS = address_of(HOLDER)
COMMAND = Clear(Selection(everything=True), 1)


def _resolved(message: messages.Admin, done: int, left: int) -> bytes:
    result = json.dumps({"done": done, "left": left}).encode()
    return encode(messages.AdminResponse(message.ref, Raw(result)))


def _says(line: bytes | None) -> FakeServer:
    return FakeServer(lambda _: line)


def _through(server: FakeServer, scene: Scene, admin: Admin, *words: str) -> Outcome:
    with server.running() as holder, scene.held(holder):
        return admin("deadletter", *words, "--yes")


@pytest.mark.parametrize("verb", ["reprocess", "clear"])
def test_command_travels_through_the_server(verb: str, scene: Scene, admin: Admin) -> None:
    """With the selection and its bound; the answer is reported as if it were the file's."""
    scene.bury(count=3)
    server = FakeServer(lambda message: _resolved(message, done=3, left=0))

    outcome = _through(server, scene, admin, verb, "--error", "BOOM")

    assert outcome.code == 0
    assert outcome.out.endswith("ed 3 dead letters.\n")
    (message,) = server.heard
    assert message.command == f"deadletter.{verb}"
    assert json.loads(bytes(message.args)) == {
        "selection": {
            "ids": None,
            "kind": None,
            "error": "BOOM",
            "died_before": None,
            "everything": False,
            "through": 3,
        },
        "limit": 1_000,
    }


def test_file_is_left_to_the_server(scene: Scene, admin: Admin) -> None:
    """Only the server writes: a server that only says it did leaves everything as it was."""
    ids = scene.bury(count=2)

    _through(FakeServer(lambda message: _resolved(message, done=2, left=0)), scene, admin, "clear", "--all")

    assert scene.states(*ids) == ["dead", "dead"]


def test_slices_go_through_one_connection_until_nothing_is_left(scene: Scene, admin: Admin) -> None:
    """Each has a number of its own, and all have the same bound."""
    scene.bury(count=3)
    left = iter([1_000, 1, 0])
    server = FakeServer(lambda message: _resolved(message, done=1_000, left=next(left)))

    outcome = _through(server, scene, admin, "reprocess", "--all")

    assert outcome.out == "Reprocessed 3,000 dead letters.\n"
    assert [message.ref for message in server.heard] == [1, 2, 3]
    assert {json.loads(bytes(message.args))["selection"]["through"] for message in server.heard} == {3}


def test_missing_ids_are_named_here_too(scene: Scene, admin: Admin) -> None:
    """The same exit code as without a server."""
    scene.bury()

    outcome = _through(FakeServer(lambda message: _resolved(message, done=1, left=0)), scene, admin, "clear", "1", "9")

    assert outcome.code == 4
    assert outcome.err.startswith("Found no such dead letter: 9;")
    assert outcome.out == "Cleared 1 dead letter.\n"


def test_other_messages_are_passed_over(scene: Scene, admin: Admin) -> None:
    """What concerns others, and answers to others, are not the answer."""
    scene.bury()

    def answer(message: messages.Admin) -> bytes:
        other = messages.Error("refused", "not you", message.ref + 1)
        late = messages.AdminResponse(message.ref - 1, Raw(b'{"done": 9, "left": 0}'))
        return b"".join(map(encode, [messages.ShuttingDown(), other, late])) + _resolved(message, 1, 0)

    assert _through(FakeServer(answer), scene, admin, "clear", "--all").out == "Cleared 1 dead letter.\n"


def test_answer_may_come_in_pieces() -> None:
    """A line is whole when it ends, not when a packet does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = encode(messages.AdminResponse(1, Raw(b'{"done": 1, "left": 0}')))
        theirs.sendall(line[:20])
        talk = Conversation(ours, ADDRESS, 5)
        theirs.sendall(line[20:])

        assert talk.carry_out(COMMAND) == Resolved(1, 0)


@pytest.mark.parametrize("has_ref", [True, False], ids=["ref", "no-ref"])
@pytest.mark.parametrize("code", ["shutting-down", "forbidden"])
def test_refusal_is_a_failure_with_the_servers_reason(code: str, scene: Scene, admin: Admin, *, has_ref: bool) -> None:
    """Exit code 1; a reason steers no terminal."""
    scene.bury()

    def answer(message: messages.Admin) -> bytes:
        reason = "wanted another \x1b[31mhour"
        return encode(messages.Error(code, reason, message.ref) if has_ref else messages.Error(code, reason))

    outcome = _through(FakeServer(answer), scene, admin, "clear", "--all")

    assert outcome.code == 1
    assert f"wanted another \\x1b[31mhour ({code})" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize("code", ["store-busy", "overloaded"])
def test_what_is_refused_for_the_moment_is_asked_again(code: str, scene: Scene, admin: Admin) -> None:
    """After a pause, on the same connection; the operator notices nothing."""
    scene.bury()

    def answer(message: messages.Admin) -> bytes:
        if message.ref < 3:
            return encode(messages.Error(code, "not now", message.ref))
        return _resolved(message, done=1, left=0)

    server = FakeServer(answer)
    outcome = _through(server, scene, admin, "clear", "--all")

    assert outcome.code == 0
    assert [message.ref for message in server.heard] == [1, 2, 3]


def test_what_is_refused_for_too_long_is_told() -> None:
    """With the server's last word."""
    server = FakeServer(lambda message: encode(messages.Error("store-busy", "not now", message.ref)))
    with (
        server.running() as holder,
        conversation(to_holder(holder), timeout_s=0.5) as talk,
        pytest.raises(CommandRefused, match=r"not now \(store-busy\)"),
    ):
        talk.carry_out(COMMAND)


def test_what_was_done_before_a_refusal_is_told(scene: Scene, admin: Admin) -> None:
    """The slices before are settled, and the operator must know."""
    scene.bury(count=3)

    def answer(message: messages.Admin) -> bytes:
        if message.ref == 1:
            return _resolved(message, done=2, left=1)
        return encode(messages.Error("shutting-down", "the server stops", message.ref))

    outcome = _through(FakeServer(answer), scene, admin, "reprocess", "--all")

    assert outcome.code == 1
    assert outcome.err.splitlines()[0] == "Reprocessed 2 of 3 dead letters."


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (None, "the server closed it"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "wanted one JSON object a line"),
        (b'{"type": "Wrong"}\n', "Wrong"),
        (b'{"type": "AdminResponse", "ref": 1, "result": {"done": "many"}}\n', "done"),
        (b'{"type": "AdminResponse", "ref": 1, "result": [1]}\n', "array"),
        (b"x" * (MAX_ANSWER + 2), "a line may hold"),
        (b"\x00\xff\n", "wanted one JSON object a line"),
    ],
    ids=["closed", "http", "unknown-type", "wrong-result", "other-result", "endless", "bytes"],
)
def test_what_no_dtm_server_says_is_unreachable(line: bytes | None, found: str, scene: Scene, admin: Admin) -> None:
    """Exit code 3, what was found, and that the outcome is unknown."""
    (id,) = scene.bury()

    outcome = _through(_says(line), scene, admin, "clear", "--all")

    assert outcome.code == 3
    assert outcome.err.startswith("Error: wanted an answer of the server at 127.0.0.1:")
    assert found in outcome.err
    assert "whether it carried out the command is unknown" in outcome.err
    assert scene.states(id) == ["dead"]


def test_nobody_at_the_address_is_unreachable(scene: Scene, admin: Admin) -> None:
    """The lock is held, but what a server left beside the store is out of date: exit code 3."""
    scene.bury()
    with _says(b"").running() as holder, socket.create_connection((holder.host, holder.port)):
        pass
    with scene.held(holder):
        outcome = admin("deadletter", "clear", "--all", "--yes")

    assert outcome.code == 3
    assert f"wanted the server with pid 4711 at 127.0.0.1:{holder.port}, found nobody there" in outcome.err


def test_holder_that_never_announced_itself_is_unreachable(scene: Scene, admin: Admin) -> None:
    """Another command, or a server that is starting: exit code 3 with the reason."""
    scene.bury()
    with scene.held():
        outcome = admin("deadletter", "clear", "--all", "--yes")

    assert outcome.code == 3
    assert "is in use by another process" in outcome.err
    assert "has not said how to reach it; try again shortly" in outcome.err


@pytest.mark.parametrize("line", [b"", b'{"type": "ShuttingDown"}\n'], ids=["silent", "off-topic"])
def test_server_that_does_not_answer_in_time_is_unreachable(line: bytes, scene: Scene) -> None:
    """However much else it says."""
    begun_at = time.monotonic()
    with (
        _says(line).running() as holder,
        scene.held(holder),
        pytest.raises(ServerUnreachable, match=r"found none within 0\.2 s"),
        changing(scene.db, clock=utc_now, timeout_s=0.2) as way,
    ):
        way(COMMAND)

    assert 0.2 <= time.monotonic() - begun_at < 5


def test_server_that_only_talks_of_other_things_is_unreachable_in_time() -> None:
    """The time is for the answer, and does not begin anew with every word."""
    ours, theirs = socket.socketpair()
    is_over = threading.Event()

    def chatter() -> None:
        for _ in range(500):
            if is_over.wait(0.02):
                return
            theirs.sendall(encode(messages.ShuttingDown()))
        theirs.shutdown(socket.SHUT_RDWR)

    talker = threading.Thread(target=chatter)
    with ours, theirs:
        talker.start()
        begun_at = time.monotonic()
        with pytest.raises(ServerUnreachable, match="found none within"):
            Conversation(ours, ADDRESS, 0.2).carry_out(COMMAND)
        took_s = time.monotonic() - begun_at
        is_over.set()
        talker.join(10)

    assert took_s < 5


@pytest.mark.parametrize(("announced", "listens"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1")])
def test_server_that_listens_everywhere_is_reached_here(announced: str, listens: str) -> None:
    """An address that means all addresses is none to connect to."""
    if ":" in listens and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = FakeServer(lambda message: _resolved(message, 1, 0), host=listens)

    with server.running(announced_as=announced) as holder, conversation(to_holder(holder), timeout_s=5) as talk:
        assert talk.carry_out(COMMAND) == Resolved(1, 0)


def test_dry_run_does_not_speak_to_the_server(scene: Scene, admin: Admin) -> None:
    """Looking needs nobody's consent."""
    scene.bury()
    with scene.held():
        outcome = admin("deadletter", "clear", "--all", "--dry-run")

    assert outcome.code == 0
    assert outcome.out.startswith("Would clear 1 dead letter: 1.")


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
