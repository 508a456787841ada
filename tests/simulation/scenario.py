"""What a simulated world is made of: how the server is set, who works in it, and what is submitted when."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from dtm.protocol.messages import RetryPolicy, SubmittedTask
from dtm.server.settings import BALANCES, Settings
from tests.simulation.producers import Wish
from tests.simulation.servers import PORT
from tests.simulation.workers import Job, Staff

KINDS = ("A", "B", "C")
_NEVER = RetryPolicy(no_retry_for=["RuntimeError", "TimeoutError"])
WEEK_S = 7 * 24 * 3600.0


class Size(Struct, frozen=True):
    """How much of everything a world has: at least, and at most.

    `twins` are tasks that are submitted twice, `troubles` kinds of trouble, `paces_s` mean times between two troubles.
    """

    workers: tuple[int, int]
    producers: tuple[int, int]
    wishes: tuple[int, int]
    twins: int
    span_s: float
    troubled_s: tuple[float, float]
    troubles: tuple[int, int]
    paces_s: tuple[float, ...]


SMALL = Size(
    workers=(1, 2),
    producers=(1, 2),
    wishes=(1, 5),
    twins=1,
    span_s=2.0,
    troubled_s=(0.5, 4.0),
    troubles=(1, 4),
    paces_s=(0.2, 0.4, 0.8),
)
MIDDLING = Size(
    workers=(2, 4),
    producers=(1, 3),
    wishes=(8, 24),
    twins=3,
    span_s=8.0,
    troubled_s=(2.0, 12.0),
    troubles=(2, 8),
    paces_s=(0.4, 0.8, 1.6),
)
LARGE = Size(
    workers=(4, 7),
    producers=(2, 5),
    wishes=(30, 60),
    twins=6,
    span_s=16.0,
    troubled_s=(8.0, 24.0),
    troubles=(4, 12),
    paces_s=(0.4, 0.8, 1.6),
)

# Small worlds find most defects, soonest, and are the easiest to read; some need more things at once.
_SIZES = {SMALL: 86, MIDDLING: 12, LARGE: 2}


class Scenario(Struct, frozen=True):
    """All of it drawn from one seed."""

    size: Size
    settings: Settings
    latency_s: float
    troubled_s: float
    staff: list[Staff]
    wishes: dict[str, list[Wish]]
    tasks: int
    cancels_at_s: list[float] = []

    @classmethod
    def draw(cls, chance: random.Random) -> Scenario:
        """Draw one."""
        (size,) = chance.choices(list(_SIZES), list(_SIZES.values()))
        wishes = _wishes(chance, size)
        scenario = cls(
            size=size,
            settings=_settings(chance),
            latency_s=chance.choice((0.0005, 0.005, 0.05)),
            troubled_s=chance.uniform(*size.troubled_s),
            staff=[_staff(chance, number) for number in range(chance.randint(*size.workers))],
            wishes=wishes,
            tasks=sum(len(wish.tasks) for its in wishes.values() for wish in its),
        )
        # Last, so that no seed's world is another one for it.
        kept = {
            "keep_completed_s": chance.choice((WEEK_S, WEEK_S, 1.0, 8.0)),
            "keep_dead_s": chance.choice((math.inf, math.inf, math.inf, 2.0)),
        }
        _add_terms(chance, wishes)
        cancels = chance.choice((0, 0, 0, 1, 2, 3))
        return replace(
            scenario,
            settings=replace(scenario.settings, **kept),
            cancels_at_s=[chance.uniform(0, size.span_s) for _ in range(cancels)],
        )


def _wishes(chance: random.Random, size: Size) -> dict[str, list[Wish]]:
    wishes: dict[str, list[Wish]] = {f"producer{n}": [] for n in range(chance.randint(*size.producers))}
    names = list(wishes)
    tasks: list[SubmittedTask] = []
    for _ in range(chance.randint(*size.wishes)):
        together = [_task(chance, len(tasks) + n) for n in range(chance.choice((1, 1, 1, 2, 4)))]
        tasks += together
        follow = chance.random() < 0.5
        wishes[chance.choice(names)].append(Wish(together, at_s=chance.uniform(0, size.span_s), follow=follow))
    for task in chance.sample(tasks, size.twins):
        # Its end is told once to each program; who submits twice listens once.
        twin = Wish([task], at_s=chance.uniform(0, 1.25 * size.span_s), follow=False)
        wishes[chance.choice(names)].append(twin)
    return wishes


def _task(chance: random.Random, number: int) -> SubmittedTask:
    how = chance.random()
    job = Job(
        key=f"key-{number}",
        takes_s=chance.choice((0.001, 0.02, 0.2, 0.2, 1.0, 3.0)) * chance.random(),
        fails=chance.randint(1, 3) if how < 0.15 else 0,
        rejects=0.15 < how < 0.2,
        kills=chance.randint(1, 3) if 0.2 < how < 0.23 else 0,
    )
    return SubmittedTask(
        kind=chance.choice(KINDS),
        payload=Raw(msgspec.json.encode(job)),
        key=job.key,
        priority=chance.choice((0, 0, 0, 5)),
        delay=chance.choice((None, None, None, chance.random() * 3)),
        max_retries=chance.choice((None, None, 1, 2, 5)),
    )


def _add_terms(chance: random.Random, wishes: dict[str, list[Wish]]) -> None:
    """Let some tasks ask for more than a run; in most worlds none does."""
    if chance.random() < 0.6:
        return
    with_terms: dict[str | None, SubmittedTask] = {}
    for wish in (wish for its in wishes.values() for wish in its):
        for task in wish.tasks:
            if task.key not in with_terms:
                with_terms[task.key] = replace(task, **_terms(chance, wish))
        wish.tasks = [with_terms[task.key] for task in wish.tasks]


def _terms(chance: random.Random, wish: Wish) -> dict[str, Any]:
    policies = (None, None, RetryPolicy("constant", 0.0), RetryPolicy("linear", 0.2, jitter=1), _NEVER)
    return {
        "timeout": chance.choice((None, None, 0.1, 0.5, 2.0)),
        "expires": chance.choice((None, None, None, 0.05, 1.0, 4.0)),
        # As with twins: who follows a task that another wish of its program follows hears nothing.
        "unique": chance.choice((None, None, None if wish.follow else "u1", None if wish.follow else "u2")),
        "retry": chance.choice(policies),
    }


def _staff(chance: random.Random, number: int) -> Staff:
    return Staff(
        f"worker{number}",
        # One can do everything, so that nothing waits for ever.
        KINDS if number == 0 else tuple(chance.sample(KINDS, chance.randint(1, 3))),
        concurrency=chance.randint(1, 3),
        prefetch=chance.choice((None, 0, 1, 5)),
        keeps_name=chance.random() < 0.5,
    )


def _settings(chance: random.Random) -> Settings:
    return Settings(
        host="server",
        port=PORT,
        heartbeat_interval_s=1.0,
        heartbeat_timeout_s=3.0,
        heartbeat_check_s=0.5,
        reconnect_grace_s=chance.choice((0.0, 0.5, 1.0)),
        dispatch_check_s=0.25,
        retry_backoff_s=(0.1, 1.0),
        balance=chance.choice(BALANCES),
        stats_interval_s=5.0,
        shutdown_timeout_s=chance.choice((0.0, 1.0, 5.0)),
    )
