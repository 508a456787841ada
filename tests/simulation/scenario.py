"""What a simulated world is made of: how the server is set, who works in it, and what is submitted when."""

from __future__ import annotations

import random

import msgspec
from msgspec import Raw, Struct

from dtm.protocol.messages import SubmittedTask
from dtm.server.settings import BALANCES, Settings
from tests.simulation.producers import Wish
from tests.simulation.servers import PORT
from tests.simulation.workers import Job, Staff

KINDS = ("A", "B", "C")


class Scenario(Struct, frozen=True):
    """All of it drawn from one seed."""

    settings: Settings
    latency_s: float
    troubled_s: float
    staff: list[Staff]
    wishes: dict[str, list[Wish]]
    tasks: int

    @classmethod
    def draw(cls, chance: random.Random) -> Scenario:
        """Draw one."""
        wishes = _wishes(chance)
        return cls(
            settings=_settings(chance),
            latency_s=chance.choice((0.0005, 0.005, 0.05)),
            troubled_s=chance.uniform(2, 12),
            staff=[_staff(chance, number) for number in range(chance.randint(2, 4))],
            wishes=wishes,
            tasks=sum(len(wish.tasks) for its in wishes.values() for wish in its),
        )


def _wishes(chance: random.Random) -> dict[str, list[Wish]]:
    wishes: dict[str, list[Wish]] = {f"producer{n}": [] for n in range(chance.randint(1, 3))}
    names = list(wishes)
    tasks: list[SubmittedTask] = []
    for _ in range(chance.randint(8, 24)):
        together = [_task(chance, len(tasks) + n) for n in range(chance.choice((1, 1, 1, 2, 4)))]
        tasks += together
        follow = chance.random() < 0.5
        wishes[chance.choice(names)].append(Wish(together, at_s=chance.uniform(0, 8), follow=follow))
    for task in chance.sample(tasks, 3):
        # Its end is told once to each program; who submits twice listens once.
        twin = Wish([task], at_s=chance.uniform(0, 10), follow=False)
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
