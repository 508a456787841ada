"""A guide page, carried out: its files written, its programs run, its commands typed, what they print compared.

A fenced block `python tasks.py` is that file; one that is only `python` is a program, and a `text` block behind it is
what it prints. In a `console` block `$` begins a command and what follows is its output; servers and workers go on in
the background. Of what is printed, numbers and blanks may differ, and `…` alone in a line stands for any lines.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.waiting import in_the_end

_BLOCK = re.compile(r"^```(?P<kind>\w+) ?(?P<name>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d[\d,.:]*")
_LONG_S = 60.0
_ANY = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block, with the words behind its fence."""

    kind: str
    name: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Give the fenced blocks of a page."""
    return [Block(**match.groupdict()) for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def carry_out(page: Path, folder: Path) -> int:
    """Do what a page says, in an empty folder; give how many blocks it has.

    Raises:
        AssertionError: something was not as the page says.
    """
    found = blocks(page)
    with ExitStack() as stack:
        reader = Reading(folder, stack)
        for block in found:
            reader.read(block)
    return len(found)


class Reading:
    """Somebody who reads a page and does what it says."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._printed = ""
        # The page's server gets a port of its own; whatever else it says is at the usual place.
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DTM_")},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(folder),
            "DTM_PORT": "0",
        }

    def read(self, block: Block) -> None:
        """Do what one block says."""
        match block.kind:
            case "python" if block.name:
                (self._folder / block.name).write_text(block.text, encoding="utf-8")
            case "python":
                self._printed = self._run([sys.executable, "-c", block.text])
            case "text":
                require_said(block.text.splitlines(), self._printed)
            case "console":
                for command, said in _commands(block.text):
                    self._type(command, said)

    def _type(self, command: str, said: Sequence[str]) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "python":
            words[0] = sys.executable
        if words[0] == "dtm-server" or (words[0] == "dtm-client" and "submit" not in words and "--help" not in words):
            self._begin(words)
        else:
            require_said(said, self._run(words))

    def _begin(self, words: list[str]) -> None:
        process = self._stack.enter_context(_running(words, self._folder, self._environment))
        if words[0] == "dtm-server":
            record = self._folder / "tasks.db.server"
            in_the_end(lambda: process.poll() is not None or record.exists(), within_s=_LONG_S)
            assert process.poll() is None, f"{words} ended"
            self._environment["DTM_SERVER"] = "127.0.0.1:{port}".format(**msgspec.json.decode(record.read_bytes()))

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            words, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=_LONG_S, check=False
        )
        assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


def require_said(wanted: Sequence[str], said: str) -> None:
    """See that the wanted lines are what was said, but for numbers and blanks."""
    found = [_plain(line) for line in said.splitlines() if line.strip()]
    for line in (_plain(line) for line in wanted if line.strip()):
        if line == _ANY:
            continue
        assert line in found, f"wanted {line!r}, found only\n{said}"
        del found[: found.index(line) + 1]


def _plain(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).replace("-", "").split())


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *said = part.splitlines()
        yield command, said


@contextmanager
def _running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[Any]]:
    with (folder / f"{words[0]}.log").open("ab") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_LONG_S)
