"""The demo producer: a task now and then, so that a first look shows something moving."""

from __future__ import annotations

import random

import anyio
import structlog

from dtm.server.hub import Hub
from dtm.storage.batch import NewTask, Submission
from dtm.storage.receipt import Refused, Submitted

log = structlog.get_logger()


async def produce(hub: Hub, chance: random.Random) -> None:
    """Submit a built-in task every demo interval, until the server drains."""
    while True:
        await anyio.sleep(hub.settings.demo_interval_s)
        if hub.is_draining:
            return
        number = chance.randrange(1, 10**9)
        task = chance.choice((NewTask("CheckPrime", str(number)), NewTask("HashText", f'"demo {number}"')))
        hub.committer.submit(Submission((task,)), _log)


def _log(answer: Submitted | Refused) -> None:
    if isinstance(answer, Submitted):
        log.info("demo.submit", task=answer.ids[0])
