"""Tasks that have stayed as long as they were to leave the store, a few at a time."""

from __future__ import annotations

from functools import partial

import anyio
import structlog

from dtm.server.hub import Hub
from dtm.storage import retention
from dtm.storage.batch import Prune
from dtm.storage.receipt import Resolved
from dtm.storage.retention import Retention

# Once round the store so often, or, where tasks stay only for moments, as often as fits that.
ROUND_S = 60.0
ROUNDS_PER_STAY = 10
SHORTEST_ROUND_S = 0.1

# At most one piece in so long a time: most of the writer's time is left to whoever waits. A server that for days takes
# in more than some thousands of tasks a second grows all the same.
PIECE_S = 0.02
# A look that found nothing is followed by this many times its own length: looking never takes up a core.
REST = 4

log = structlog.get_logger()


async def prune(hub: Hub) -> None:
    """Go round the store for ever, and take out whatever has ended long enough ago."""
    rule = hub.settings.retention
    if rule.shortest is None:
        return
    round_s = max(SHORTEST_ROUND_S, min(ROUND_S, rule.shortest / 1_000_000 / ROUNDS_PER_STAY))
    while True:
        await anyio.sleep(round_s)
        began_s = hub.clock.monotonic_s()
        done = await _go_round(hub, rule)
        if done:
            log.info("tasks.pruned", tasks=done, seconds=round(hub.clock.monotonic_s() - began_s, 1))


async def _go_round(hub: Hub, rule: Retention) -> int:
    done, looked_to = 0, 0
    while True:
        began_s = hub.clock.monotonic_s()
        cutoffs = rule.cutoffs(hub.clock.now())
        found = await hub.inquiries.ask(partial(retention.look, cutoffs=cutoffs, after=looked_to))
        looked_s = hub.clock.monotonic_s() - began_s
        if found.ids:
            done += await _take_out(hub, Prune(found.ids, cutoffs))
        if found.looked_to is None:
            return done
        looked_to = found.looked_to
        await anyio.sleep(REST * looked_s)


async def _take_out(hub: Hub, pruning: Prune) -> int:
    done, left = 0, 1
    while left:
        await hub.committer.room()
        answer = await hub.committer.prune(pruning)
        if not isinstance(answer, Resolved):
            log.error("tasks.not-pruned", first=pruning.ids[0], last=pruning.ids[-1], reason=answer.reason)
            break
        done, left = done + answer.done, answer.left
        await anyio.sleep(PIECE_S)
    return done
