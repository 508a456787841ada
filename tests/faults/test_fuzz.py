"""Anything at all on the wire: it is answered, the server goes on, and what it kept can be read."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.acceptance.cluster import DEADLINE_S, Cluster
from tests.faults.dialogue import Books
from tests.faults.fuzz import complaints, target_of, try_codec, try_server
from tests.faults.strictness import is_strict_json
from tests.server.live import serving

# The real numbers: a conversation of many lines must not count as silence on a busy machine.
REAL = {"heartbeat_interval_s": 10.0, "heartbeat_timeout_s": 30.0, "heartbeat_check_s": 5.0}


def test_the_codec_agrees_with_pythons_own_parser(chance: random.Random) -> None:
    """What is JSON, to the last escape and byte; what passes comes out as it went in, and a refusal can be sent."""
    counts = try_codec(str(chance.random()), 8_000)

    assert min(counts["a message"], counts["bad-json"], counts["bad-message"]) > 400


async def test_a_server_answers_whatever_it_is_sent(chance: random.Random, tmp_path: Path) -> None:
    """Each line that wants an answer gets one, a healthy client is served meanwhile, and nothing fails inside."""
    books = Books()
    async with serving(tmp_path, **REAL) as live:
        await try_server(target_of(live.settings.db), str(chance.random()), lines=2_500, books=books)
        failed = [entry for entry in live.events if "exc_info" in entry or entry["event"] == "connection.failed"]

    assert failed == []
    assert books.payloads
    assert books.values
    assert dict(complaints(live.settings.db, books)) == {}


async def test_what_a_fuzzed_server_kept_can_be_read(chance: random.Random, cluster: Cluster) -> None:
    """By dtm-admin, in each of its views; and the server ends as if nothing had been."""
    server, books = cluster.start_server(), Books()
    await try_server(target_of(cluster.db), str(chance.random()), lines=1_000, books=books)
    server.send_signal(signal.SIGTERM)

    assert server.wait(DEADLINE_S) == 0
    assert "Traceback" not in cluster.logs()
    assert "connection.failed" not in cluster.logs()
    assert dict(complaints(cluster.db, books)) == {}
    for words in (("stats",), ("tasks", "list", "--limit", "10000"), ("deadletter", "list", "--limit", "10000")):
        document = cluster.finish("dtm-admin", *words, "-o", "json").stdout
        table = cluster.finish("dtm-admin", *words).stdout
        assert is_strict_json(document.encode())
        assert document.isascii()
        assert all(letter.isprintable() or letter == "\n" for letter in table)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a":[1e999,-0,"\\u0000","\\ud83d\\udca3"],"a":1}', True),
        (b"9" * 5_000, True),
        (b"[" * 100_000, None),
        (b"[NaN]", False),
        (b"-Infinity", False),
        (b'{"a":"\\ud800","a":1}', False),
        (b'{"\\udcff":1}', False),
        (b'"\xed\xa0\x80"', False),
        (b'"\x01"', False),
        (b"\xef\xbb\xbf1", False),
        (b"01", False),
        (b"", False),
    ],
)
def test_the_second_opinion_is_strict(line: bytes, expected: bool | None) -> None:  # noqa: FBT001
    """Were it lax, it would not notice that the codec is."""
    assert is_strict_json(line) is expected
