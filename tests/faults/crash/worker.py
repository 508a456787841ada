"""A process that plays schedules: the shim is loaded, and each line it prints is the tally of some of them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from itertools import islice

import msgspec
import structlog
from msgspec import Struct

from tests.faults.crash.dialect import share
from tests.faults.crash.recorder import Recorder
from tests.faults.crash.scenarios import SCENARIOS, Scenes
from tests.faults.crash.schedules import GROUP, Schedules
from tests.faults.crash.tally import Tally
from tests.faults.crash.walk import Walk

WALKED_AT_ONCE = 50


class Order(Struct, frozen=True, kw_only=True):
    """What to do, all of it or, if there are several workers, every `of`-th part from `part` on."""

    seed: str
    schedules: int = 0
    only: tuple[int, int] | None = None
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    walk: bool = False
    every: int = 1
    part: int = 0
    of: int = 1


def carry_out(order: Order, recorder: Recorder) -> Iterator[Tally]:
    """Play what is asked for, some of it at a time."""
    if order.only is not None:
        group, number = order.only
        yield Schedules(recorder, order.seed, order.scenarios).play_group(group, range(number, number + 1))
    elif order.walk:
        yield from _walk(order, recorder)
    else:
        schedules = Schedules(recorder, order.seed, order.scenarios)
        for group in range(order.part, -(-order.schedules // GROUP), order.of):
            yield schedules.play_group(group, range(min(GROUP, order.schedules - group * GROUP)))


def _walk(order: Order, recorder: Recorder) -> Iterator[Tally]:
    scenes = Scenes(recorder)
    for name in order.scenarios:
        walk = Walk(recorder, scenes, name, order.seed)
        yield Tally(lives=1)
        points = islice(walk.points(), order.part * order.every, None, order.of * order.every)
        while some := list(islice(points, WALKED_AT_ONCE)):
            yield walk.play(some)


def main() -> None:
    """Read the order from the command line, and print tallies."""
    structlog.configure(processors=[_drop])
    share()
    # What there is now stays, and lives leave little behind.
    gc.freeze()
    gc.set_threshold(50_000)
    order = msgspec.json.decode(sys.argv[1], type=Order)
    before_s = _cpu_s()
    for tally in carry_out(order, Recorder()):
        now_s = _cpu_s()
        tally.cpu_s, before_s = now_s - before_s, now_s
        sys.stdout.buffer.write(msgspec.json.encode(tally) + b"\n")
        sys.stdout.buffer.flush()


def _cpu_s() -> float:
    return sum(os.times()[:4])  # its own, and that of the processes it let be killed


def _drop(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
