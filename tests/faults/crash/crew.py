"""Worker processes with the shim loaded, and their tallies as they come."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Self

import msgspec

from tests.faults.crash.recorder import build
from tests.faults.crash.tally import Tally
from tests.faults.crash.worker import Order

TOP = Path(__file__).parents[3]
# What is durable is the model's to say, so that the files may lie in memory.
SHARED_MEMORY = Path("/dev/shm")


class Crew:
    """As many processes as there are orders; leaving the context ends them."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self._folder = tempfile.TemporaryDirectory(
            prefix="dtm-crash-", dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        place = self._folder.name
        # The order of a set of texts is chance too. What a killed process leaves behind goes with the place.
        env = {**os.environ, "LD_PRELOAD": str(build(Path(place))), "PYTHONHASHSEED": "0", "TMPDIR": place}
        for order in self._orders:
            words = [sys.executable, "-m", "tests.faults.crash.worker", msgspec.json.encode(order).decode()]
            self._processes.append(subprocess.Popen(words, cwd=TOP, env=env, stdout=subprocess.PIPE))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self._folder.cleanup()

    def tallies(self) -> Iterator[Tally]:
        """Give tallies until every process has ended.

        Raises:
            ChildProcessError: one of them did not end well.
        """
        with selectors.DefaultSelector() as ready:
            for process in self._processes:
                ready.register(_output(process), selectors.EVENT_READ, process)
            while ready.get_map():
                for key, _ in ready.select():
                    if line := _output(key.data).readline():
                        yield msgspec.json.decode(line, type=Tally)
                    else:
                        ready.unregister(key.fileobj)
                        _require_good_end(key.data)


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _require_good_end(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise ChildProcessError(f"a worker ended with {process.returncode}")
