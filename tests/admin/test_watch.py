"""`dtm-admin stats --watch`, as a process of its own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.admin.scene import Admin, Scene

PROGRAM = [sys.executable, "-c", "import sys; from dtm_admin.cli import main; sys.exit(main())"]
CLEAR_SCREEN = b"\x1b[2J"


@contextmanager
def _watching(scene: Scene, *words: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    command = [*PROGRAM, "stats", "--db", str(scene.db), *words]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _interrupt(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    return process.returncode, err


def test_piped_json_is_one_document_a_line(scene: Scene) -> None:
    """Each line stands for itself; Ctrl-C ends it quietly with 130."""
    with _watching(scene, "-o", "json", "--watch", "100ms") as process:
        lines = [_pipe(process.stdout).readline() for _ in range(3)]
        end = _interrupt(process)

    documents = [json.loads(line) for line in lines]
    assert [document["db"] for document in documents] == [str(scene.db)] * 3
    assert len({document["at"] for document in documents}) == 3
    assert end == (130, b"")


def test_piped_table_is_repeated(scene: Scene) -> None:
    """A file gets the tables one below the other, with nothing that clears a screen."""
    with _watching(scene, "--watch", "100ms") as process:
        stdout = _pipe(process.stdout)
        seen = b""
        while seen.count(b"Store:") < 2:
            seen += stdout.readline()
        end = _interrupt(process)

    assert b"\x1b" not in seen
    assert b"\n\nStore:" in seen
    assert end == (130, b"")


def test_terminal_is_redrawn(scene: Scene) -> None:
    """On a terminal each table takes the place of the last."""
    master, slave = pty.openpty()
    try:
        with _watching(scene, "--watch", "100ms", stdout=slave) as process:
            seen = b""
            while seen.count(CLEAR_SCREEN) < 2:
                seen += os.read(master, 65_536)
                assert len(seen) < 50_000, "the screen was not cleared"
            end = _interrupt(process)
    finally:
        os.close(master)
        os.close(slave)

    assert seen.startswith(CLEAR_SCREEN)
    assert end == (130, b"")


def test_interval_may_be_left_out(scene: Scene) -> None:
    """`--watch` alone, before other options or at the end."""
    with _watching(scene, "--watch", "-o", "json") as process:
        line = _pipe(process.stdout).readline()
        end = _interrupt(process)

    assert json.loads(line)["dead_letters"] == 0
    assert end == (130, b"")


@pytest.mark.parametrize("interval", ["0", "1ms", "soon"])
def test_senseless_interval_is_wrong_usage(interval: str, admin: Admin) -> None:
    """An interval of nothing would only heat the machine."""
    outcome = admin("stats", "--watch", interval)

    assert outcome.code == 2
    assert "--watch" in outcome.err
