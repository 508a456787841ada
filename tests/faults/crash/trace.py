"""A life of the server with everything it did to the files, to be crashed at any point of it, as often as one likes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.crash import oracle
from tests.faults.crash.disk import Disk
from tests.faults.crash.ledger import Asked, Ledger, Note, Told
from tests.faults.crash.life import DATABASE, Life, Plan
from tests.faults.crash.recorder import Kind, Recorder, Step

NOON = 1_704_000_000_000_000
GARBAGE = 32 * 1024  # the usual size of a -shm file


class Trace:
    """What happened from the disk's state at the start to the end of a life."""

    def __init__(self, start: Start, steps: list[Step]) -> None:
        self.start = start
        self.steps = steps

    def disk_after(self, steps: int, *, half: Step | None = None) -> Disk:
        """Give the files as they were after so many steps, and a part of the next."""
        disk = self.start.disk.copy()
        for step in self.steps[:steps]:
            disk.apply(step)
        if half is not None:
            disk.apply(half)
        return disk

    def notes(self, steps: int | None = None) -> list[Note]:
        """Give what this life had said after so many steps, or at its end."""
        return [step.note() for step in self.steps[:steps] if step.kind is Kind.NOTED]

    def ledger_after(self, steps: int) -> Ledger:
        """Give what must hold if a crash comes then."""
        ledger, notes = self.start.ledger(), self.notes(steps)
        ledger.hear_all(notes)
        if notes and isinstance(notes[-1], Asked):
            # In flight: the batch may have come through whole or not at all.
            ledger.states = (*ledger.states, self._next_told(steps).state)
        return ledger

    def _next_told(self, steps: int) -> Told:
        note = next(step.note() for step in self.steps[steps:] if step.kind is Kind.NOTED)
        assert isinstance(note, Told), note
        return note


class Start(NamedTuple):
    """What a life begins with: the files that a crash of `before`, after `cut` of its steps, has left."""

    disk: Disk
    before: Trace | None
    cut: int

    def ledger(self) -> Ledger:
        """Give what must hold now."""
        return self.before.ledger_after(self.cut) if self.before is not None else Ledger(NOON)


def record(recorder: Recorder, start: Start, *, plan: Plan, chance: Random) -> Trace:
    """Let a server live in a new folder with the files of `start`; check all that it finds and leaves."""
    with new_folder() as folder:
        start.disk.put(folder)
        if chance.random() < 0.25:
            (folder / f"{DATABASE}-shm").write_bytes(chance.randbytes(GARBAGE))
        return live(recorder, folder, start, plan=plan, chance=chance)


@contextmanager
def new_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def live(recorder: Recorder, folder: Path, start: Start, *, plan: Plan, chance: Random) -> Trace:
    """Let a server live in `folder`, whose files are those of `start`; check all that it finds and leaves."""
    promised, ledger = start.ledger(), start.ledger()
    oracle.check_copy(folder, promised.copies)
    recorder.watch(folder)
    try:
        Life(folder, ledger, recorder).run(plan, chance)
    finally:
        recorder.stop()
    trace = Trace(start, recorder.steps())
    require_nothing_missed(trace, folder)
    oracle.check_restart(promised, trace.notes())
    log = oracle.whole_log(start.disk.contents())
    oracle.check_log_after_crash(promised.position, log, oracle.audit_rows(folder))
    oracle.check_files(folder, ledger)
    return trace


def require_nothing_missed(trace: Trace, folder: Path) -> None:
    """Make sure that the record of a process that has ended accounts for every byte of its files."""
    recorded = trace.disk_after(len(trace.steps)).contents()
    found = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    if recorded != found:
        differ = [name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name)]
        raise RuntimeError(f"the shim missed a call: its record and the files differ in {differ}")
