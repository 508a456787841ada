"""Every kill point of a scenario: a real process killed with SIGKILL before, half-way through and after each call.

What it left is compared with the record byte by byte, and recovered from twice: as it is, and after a power loss.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.crash.disk import WEATHERS
from tests.faults.crash.life import Life
from tests.faults.crash.recorder import Kind, Moment, Recorder
from tests.faults.crash.scenarios import AFTERWARDS, SCENARIOS, Scenes
from tests.faults.crash.tally import MAX_STORY, Failure, Tally
from tests.faults.crash.trace import Start, Trace, live, new_folder, record, require_nothing_missed


class Point(NamedTuple):
    """A place to be killed at."""

    call: int
    moment: Moment


class Walk:
    """The kill points of one scenario under one seed."""

    def __init__(self, recorder: Recorder, scenes: Scenes, name: str, seed: str) -> None:
        self._recorder = recorder
        self._seed = f"{seed}/{name}"
        self._plan = SCENARIOS[name].plan
        self._start = scenes.start(SCENARIOS[name], Random(f"{self._seed}/start"))
        with new_folder() as folder:
            self._start.disk.put(folder)
            self._whole = live(recorder, folder, self._start, plan=self._plan, chance=self._chance())
        self.calls = recorder.calls

    def points(self) -> Iterator[Point]:
        """List all kill points."""
        return (Point(call, moment) for call in range(1, self.calls + 1) for moment in Moment)

    def play(self, points: Iterable[Point]) -> Tally:
        """Kill a process at each of these points, and recover."""
        tally = Tally()
        for point in points:
            tally.schedules += 1
            tally.kill_points += 1
            try:
                self._play(point, tally)
            except Exception:  # noqa: BLE001
                where = f"{self._seed}: call {point.call} of {self.calls}, {point.moment.name}"
                tally.failures.append(Failure(where, traceback.format_exc(limit=-4)[-MAX_STORY:]))
        return tally

    def _play(self, point: Point, tally: Tally) -> None:
        chance = Random(f"{self._seed}/{point}")
        with new_folder() as folder:
            self._start.disk.put(folder)
            killed, cut = self._kill(folder, point)
            tally.kill_points_hit += 1
            tally.count_kill(self._recorder.last_call.name)
            left = Start(killed.disk_after(cut), killed, cut)
            live(self._recorder, folder, left, plan=AFTERWARDS, chance=chance)
        dark = left._replace(disk=left.disk.after_power_loss(chance.choice(WEATHERS), chance))
        record(self._recorder, dark, plan=AFTERWARDS, chance=chance)
        tally.power_losses += 1
        tally.recoveries += 2

    def _kill(self, folder: Path, point: Point) -> tuple[Trace, int]:
        """Kill a process at `point`, and give its record, with its length; what it would have said next is appended."""
        pid = os.fork()
        if pid == 0:
            self._die(folder, point)
        _, status = os.waitpid(pid, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            raise RuntimeError(f"the process was not killed; it ended with status {status}")
        steps = self._recorder.steps()
        require_nothing_missed(Trace(self._start, steps), folder)
        said = sum(step.kind is Kind.NOTED for step in steps)
        unsaid = [step for step in self._whole.steps if step.kind is Kind.NOTED][said:]
        return Trace(self._start, [*steps, *unsaid]), len(steps)

    def _die(self, folder: Path, point: Point) -> None:
        try:
            self._recorder.watch(folder)
            self._recorder.arm(point.call, point.moment)
            Life(folder, self._start.ledger(), self._recorder).run(self._plan, self._chance())
        except BaseException:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
        os._exit(1)

    def _chance(self) -> Random:
        return Random(f"{self._seed}/life")
