"""Random schedules: a life, a crash in it, perhaps the loss of what was not synced, and so on up to three times.

A schedule has a name, `SEED/GROUP/NUMBER`, from which it follows whole. A group shares its first life.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tests.faults.crash.disk import WEATHERS
from tests.faults.crash.recorder import Recorder, Step
from tests.faults.crash.scenarios import AFTERWARDS, SCENARIOS, Scenes
from tests.faults.crash.tally import MAX_STORY, Failure, Tally
from tests.faults.crash.trace import Start, Trace, record

GROUP = 25
"""Schedules that crash the same first life; making it costs as much as two or three of them."""

MAX_CRASHES = 3


class Cut(NamedTuple):
    """Where a crash comes: after so many steps, and perhaps half of the next call."""

    after: int
    half: Step | None

    def __str__(self) -> str:
        return f"after step {self.after}{' and a half' if self.half else ''}"


class Schedules:
    """The schedules of one seed."""

    def __init__(self, recorder: Recorder, seed: str, scenarios: Sequence[str]) -> None:
        self._recorder = recorder
        self._seed = seed
        self._names = scenarios
        self._scenes = Scenes(recorder)

    def play_group(self, group: int, numbers: range) -> Tally:
        """Play these schedules of a group."""
        tally = Tally()
        story: list[str] = []
        try:
            first = self._first_life(group, story)
        except Exception:  # noqa: BLE001
            tally.failures.append(_failure(f"{self._seed}/{group}/0", story))
            return tally
        tally.lives += 1
        tally.kill_points += sum(2 if step.half() else 1 for step in first.steps) + 1
        hit: set[tuple[int, bool]] = set()
        for number in numbers:
            self._play(first, f"{self._seed}/{group}/{number}", tally, hit)
        tally.kill_points_hit += len(hit)
        return tally

    def _first_life(self, group: int, story: list[str]) -> Trace:
        chance = Random(f"{self._seed}/{group}")
        (name,) = chance.choices(self._names, [SCENARIOS[name].weight for name in self._names])
        if group < len(self._names):
            name = self._names[group]  # each of them once, however short the run
        story.append(f"scenario {name}")
        return self._scenes.trace(name, chance)

    def _play(self, first: Trace, name: str, tally: Tally, hit: set[tuple[int, bool]]) -> None:
        chance, trace, depth = Random(name), first, 0
        story: list[str] = []
        tally.schedules += 1
        try:
            while depth == 0 or (depth < MAX_CRASHES and chance.random() < 0.4):
                cut = _cut(trace, chance)
                if depth == 0:
                    hit.add((cut.after, cut.half is not None))
                depth += 1
                tally.count_kill(trace.steps[cut.after].kind.name if cut.after < len(trace.steps) else "END")
                start = _crash(trace, cut, chance, tally, story)
                trace = record(self._recorder, start, plan=AFTERWARDS, chance=chance)
                tally.recoveries += 1
        except Exception:  # noqa: BLE001
            tally.failures.append(_failure(name, story))
        tally.deaths_in_a_row[depth] = tally.deaths_in_a_row.get(depth, 0) + 1


def _cut(trace: Trace, chance: Random) -> Cut:
    after = chance.randrange(len(trace.steps) + 1)
    can_be_half = after < len(trace.steps) and chance.random() < 0.3
    return Cut(after, trace.steps[after].half() if can_be_half else None)


def _crash(trace: Trace, cut: Cut, chance: Random, tally: Tally, story: list[str]) -> Start:
    disk = trace.disk_after(cut.after, half=cut.half)
    if chance.random() < 0.65:
        weather = chance.choice(WEATHERS)
        disk = disk.after_power_loss(weather, chance)
        tally.power_losses += 1
        story.append(f"power lost {cut} of {len(trace.steps)}, {weather}")
    else:
        story.append(f"killed {cut} of {len(trace.steps)}")
    return Start(disk, trace, cut.after)


def _failure(name: str, story: list[str]) -> Failure:
    return Failure(name, "\n".join([*story, traceback.format_exc(limit=-4)[-MAX_STORY:]]))
