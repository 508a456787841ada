"""Lets one peer do one thing, and writes what came of it to a file, as JSON.

python -m bench.peers.programs.drive PEER prepare|submit|drain|one-by-one TASKS FILE
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

import uvloop

LOOK_S = 0.02
# The first tasks also pay for connections, imports and prepared statements: they are run, and not counted.
WARM_UP = 20


class Program(Protocol):
    """What a peer's module can do; it may connect whenever it wants to, in the one loop of the process."""

    PACKAGE: str | None

    async def prepare(self) -> None:
        """Make what the peer needs before its first task: tables, for example."""

    async def submit(self, tasks: int) -> None:
        """Submit tasks number 0 to `tasks` - 1; all are safe, by the peer's own word, when this returns."""

    async def settle(self) -> None:
        """Do what the peer's manual asks for after a bulk of tasks."""

    async def all_done(self, tasks: int) -> bool:
        """Say, at next to no cost, whether the results of all `tasks` are there."""

    async def digests(self, tasks: int) -> Sequence[str | None]:
        """Give the results of tasks number 0 to `tasks` - 1; None where there is none."""

    async def run_one(self, number: int) -> str | None:
        """Submit one task, and wait for its result."""


async def prepare(program: Program, _: int) -> dict[str, Any]:
    """Prepare the peer and name its version."""
    await program.prepare()
    return {"version": metadata.version(program.PACKAGE) if program.PACKAGE else ""}


async def submit(program: Program, tasks: int) -> dict[str, Any]:
    """Submit all tasks, and give the seconds that it took."""
    began_s = time.perf_counter()
    await program.submit(tasks)
    seconds = time.perf_counter() - began_s
    await program.settle()
    return {"seconds": seconds}


async def drain(program: Program, tasks: int) -> dict[str, Any]:
    """Wait until all results are there, and give them and the instant at which the last one was."""
    # No peer tells of this by an event.
    while not await program.all_done(tasks):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)
    ended_at = time.monotonic()
    return {"ended_at": ended_at, "digests": list(await program.digests(tasks))}


async def one_by_one(program: Program, tasks: int) -> dict[str, Any]:
    """Run tasks one by one, and give the seconds that each took and the results."""
    took_s, digests = [], []
    for number in range(-WARM_UP, tasks):
        began_s = time.perf_counter()
        digest = await program.run_one(number)
        took_s.append(time.perf_counter() - began_s)
        digests.append(digest)
    return {"took_s": took_s[WARM_UP:], "digests": digests[WARM_UP:]}


COMMANDS: dict[str, Callable[[Program, int], Awaitable[dict[str, Any]]]] = {
    "prepare": prepare,
    "submit": submit,
    "drain": drain,
    "one-by-one": one_by_one,
}


async def main(peer: str, command: str, tasks: int, output: Path) -> None:
    """Carry out `command`, and write down what came of it: the file is there as soon as it is whole."""
    program = cast("Program", importlib.import_module(f"{__package__}.{peer}"))
    part = output.with_suffix(".part")
    part.write_text(json.dumps(await COMMANDS[command](program, tasks)))
    part.rename(output)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
