"""Strangers' words on a terminal: payloads, results, errors, kinds and names are shown, and steer nothing."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import COMMAND_TIMEOUT_S, Cluster
from tests.acceptance.terminal import Terminal, shown_by, started

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

pytest_plugins = ("tests.wheel",)

# Clear the screen, set the title, ring, overwrite the line, eight-bit CSI, DEL, turns of direction, ends of lines.
EVIL = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\x7f\u202egnp.exe\u2066\u2028\u2029\x85\nroot# "


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Terminal]:
    """A server on a terminal, and a stranger who has said to it what he should not."""
    command: list[str | Path] = [
        cluster.program("dtm-server"),
        "--db",
        "tasks.db",
        "--port",
        "0",
        "--log-level",
        "debug",
    ]
    with started(command, cluster.folder) as (process, terminal):
        found = cluster.eventually(
            "the server listens", lambda: re.search(r"listening +address=(\S+)", terminal.shown), of=process
        )
        cluster.address = found[1].strip()
        _say_it_all(cluster.address)
        yield terminal


def _say_it_all(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30.0) as connection, connection.makefile("rb") as answers:

        def ask(message: dict[str, Any], kind: str) -> dict[str, Any]:
            connection.sendall(json.dumps(message, ensure_ascii=False).encode() + b"\n")
            while (answer := json.loads(answers.readline()))["type"] != kind:
                pass
            assert isinstance(answer, dict)
            return answer

        ask({"type": "Register", "name": f"w{EVIL}", "kinds": [f"k{EVIL}"], "capacity": 1}, "RegisterResponse")
        results: list[dict[str, Any]] = [
            {"ok": True, "value": f"v{EVIL}"},
            {"ok": True, "value": {f"v{EVIL}": [EVIL, 1]}},
            {"ok": False, "error": {"type": f"E{EVIL}", "message": EVIL, "traceback": f"T{EVIL}"}, "retry": False},
        ]
        for number, result in enumerate(results, start=1):
            submitted = {"kind": f"k{EVIL}", "payload": {f"p{EVIL}": EVIL}, "key": f"{number}{EVIL}"}
            task = ask({"type": "Submit", "ref": number, "tasks": [submitted]}, "Task")
            ids = {name: task[name] for name in ("task_id", "assignment")}
            ask({"type": "Result", **ids, **result}, "ResultResponse")
        ask({"type": f"N{EVIL}"}, "Error")


def _is_harmless(shown: str) -> bool:
    return all(letter.isprintable() or letter in "\r\n" for letter in shown) and "\r" not in shown.replace("\r\n", "")


# What click's progress bar begins and ends with.
CURTAINS = ("\r\x1b[?25l", "\x1b[?25h")
LOOKS = [
    ("dtm-client", "result", "1", "2", "3"),
    ("dtm-admin", "stats"),
    ("dtm-admin", "tasks", "list"),
    ("dtm-admin", "tasks", "show", "3"),
    ("dtm-admin", "deadletter", "list"),
]
SLIPS = [
    ("dtm-client", "submit", f"k{EVIL}", EVIL, "--key", f"1{EVIL}"),
    ("dtm-client", "submit", "A", EVIL, "--json"),
    ("dtm-client", EVIL),
    ("dtm-admin", "tasks", "list", "--db", f"no{EVIL}"),
]


def test_what_a_stranger_has_said_steers_no_terminal(scene: Terminal, cluster: Cluster) -> None:
    """It is there to be read, as escapes, for people and in JSON; the server's log names it too."""
    for words in (*LOOKS, *[(*look, "-o", "json") for look in LOOKS], *SLIPS):
        program, *rest = words
        server = ("--server", cluster.address) if rest[0] in ("result", "submit") else ()
        shown = shown_by([cluster.program(program), *rest, *server], cluster.folder, COMMAND_TIMEOUT_S)

        for curtain in CURTAINS:
            shown = shown.replace(curtain, "")
        assert _is_harmless(shown), (words, ascii(shown))
        assert re.search(r"\\x1b\[2J|\\u001b\[2J", shown), (words, shown)
        assert "Traceback (most" not in shown, (words, shown)
    cluster.eventually("the death is logged", lambda: "task.dead" in scene.shown)
    assert _is_harmless(scene.shown), ascii(scene.shown)
    assert "name='w\\x1b[2J" in scene.shown
    assert "\\\\x1b" not in scene.shown


def test_a_pipe_is_given_the_data(scene: Terminal, cluster: Cluster) -> None:
    """One line a task, and each is what was computed."""
    assert scene.shown
    first, second, third = cluster.client("result", "1", "2", "3", code=1).split("\n")[:3]

    assert json.loads(first) == f"v{EVIL}"
    assert json.loads(second) == {f"v{EVIL}": [EVIL, 1]}
    assert third == ""
