"""What is measured of a peer: bulk submission, drain by two worker processes, and tasks one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import percentile
from bench.peers.peer import PROGRAMS, Peer
from bench.peers.rows import Row
from bench.peers.stores import STORES, Store
from bench.process import TOP, Failed, Process, running_program
from bench.texts import SHORT

PYTHON = TOP / ".venv-peers" / "bin" / "python"
TIMEOUT_S = 120.0
MOST_ONE_BY_ONE = 200


def measure(peer: Peer, store: str, folder: Path, tasks: int) -> Row:
    """Measure a peer on a store.

    Raises:
        Failed: something did not run, or a result is missing or wrong.
    """
    bulk, single = folder / "bulk", folder / "one-by-one"
    for place in (bulk, single):
        place.mkdir(mode=0o711)
    tasks = max(1, round(tasks * peer.share))
    one_by_one = min(tasks, MOST_ONE_BY_ONE)
    with _prepared(peer, STORES[store], bulk) as run:
        submitted = run("submit", tasks)
        with _working(peer, run) as workers:
            drained = run("drain", tasks, workers=workers)
        drained_s = drained["ended_at"] - _began_at(bulk)
    require_right(drained["digests"], tasks)
    with _prepared(peer, STORES[store], single) as run, _working(peer, run) as workers:
        took = run("one-by-one", one_by_one, workers=workers)
    require_right(took["digests"], one_by_one)
    return Row(
        peer=peer.name,
        version=run.version,
        store=f"{STORES[store].name} {STORES[store].version()}",
        durability=STORES[store].durability,
        equal=STORES[store].equal,
        settings=peer.settings,
        tasks=tasks,
        submit_per_s=tasks / submitted["seconds"],
        drain_per_s=tasks / drained_s,
        p50_ms=percentile(took["took_s"], 50) * 1_000,
        p99_ms=percentile(took["took_s"], 99) * 1_000,
    )


def require_right(digests: Sequence[str | None], tasks: int) -> None:
    """See that the results of tasks number 0 to `tasks` - 1 are all there and right.

    Raises:
        Failed: they are not.
    """
    wanted = [msgspec.json.decode(SHORT.result(number)) for number in range(tasks)]
    if digests != wanted:
        wrong = sum(one != other for one, other in zip_longest(digests, wanted))
        raise Failed(f"wanted {tasks:,} right results; {wrong:,} are missing, wrong or too many")


class _Program:
    """A peer's program in the peers' own environment, one process for each command."""

    def __init__(self, peer: Peer, server: str, folder: Path) -> None:
        self._peer = peer
        self.folder = folder
        self.environment = {
            **os.environ,
            "BENCH_SERVER": server,
            "BENCH_FOLDER": str(folder),
            "PYTHONPATH": str(TOP),
        }
        self.version = str(self("prepare", 0)["version"])

    def __call__(self, command: str, tasks: int, *, workers: Sequence[Process] = ()) -> dict[str, Any]:
        """Let the program carry out a command, while all `workers` run."""
        words = [str(PYTHON), "-m", f"{PROGRAMS}.drive", self._peer.program, command, str(tasks)]
        output = self.folder / f"{command}.json"
        with running_program(
            [*words, str(output)], self.folder / f"{command}.log", environment=self.environment, folder=self.folder
        ) as process:

            def look() -> bytes | None:
                for worker in workers:
                    worker.require_running()
                return output.read_bytes() if output.exists() else None

            said = process.wait_for(look, f"{command} {tasks:,} tasks", timeout_s=TIMEOUT_S)
        values: dict[str, Any] = msgspec.json.decode(said)
        return values


@contextmanager
def _prepared(peer: Peer, store: Store, folder: Path) -> Iterator[_Program]:
    with store.running(folder) as server:
        yield _Program(peer, server, folder)


@contextmanager
def _working(peer: Peer, run: _Program) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_program(
                    (str(PYTHON), "-m", *words.split()),
                    run.folder / f"worker-{number}.log",
                    environment=run.environment,
                    folder=run.folder,
                )
            )
            for number, words in enumerate(peer.workers, 1)
        ]


def _began_at(folder: Path) -> float:
    notes = [float(path.read_text()) for path in folder.glob("began-*")]
    if not notes:
        raise Failed("wanted a note of when the first worker began, found none")
    return min(notes)
