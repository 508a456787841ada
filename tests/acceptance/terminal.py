"""Programs on a terminal of their own, and everything that they show there."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Terminal:
    """A pseudo-terminal; a thread reads along, for a program waits when nobody does."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def shown(self) -> str:
        """What has been shown so far."""
        return bytes(self._shown).decode("utf-8", "replace")

    def finish(self) -> str:
        """Give everything that was shown; the programs on it have ended."""
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)
        return self.shown

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65_536):
                self._shown += data
        except OSError:
            pass  # Linux says EIO when the last program has closed it


@contextmanager
def started(command: Sequence[str | Path], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """Run a program on a terminal as long as the context lasts."""
    terminal = Terminal()
    end = terminal.theirs
    # Colours are escapes too: without them whatever steers the terminal is a stranger's.
    env = os.environ | {"NO_COLOR": "1", "TERM": "xterm-256color"}
    process = subprocess.Popen(command, cwd=folder, stdin=end, stdout=end, stderr=end, env=env)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        terminal.finish()


def shown_by(command: Sequence[str | Path], folder: Path, timeout_s: float) -> str:
    """Run a program to its end on a terminal, and give what it shows."""
    with started(command, folder) as (process, terminal):
        process.wait(timeout_s)
    return terminal.shown
