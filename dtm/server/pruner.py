"""Tasks that have stayed as long as they were to leave the store, a few at a time."""

from __future__ import annotations

from functools import partial

import anyio
import structlog

from dtm.server.hub import Hub
from dtm.storage import retention
from dtm.storage.batch import Cutoffs, Prune
from dtm.storage.receipt import Resolved
from dtm.storage.retention import Retention

# Once round the store so often, or, where tasks stay only for moments, as often as fits that.
ROUND_S = 60.0
ROUNDS_PER_STAY = 10
SHORTEST_ROUND_S = 0.1

# At most one piece in so long a time, and one a commit: on an idle server most of the writer's time is left to whoever
# comes. On a busy one each commit takes longer than that, and takes a piece along.
PIECE_S = 0.005
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
        done += await _take_out(hub, found.ids, cutoffs)
        if found.looked_to is None:
            return done
        looked_to = found.looked_to
        if not found.ids:
            await anyio.sleep(REST * looked_s)


async def _take_out(hub: Hub, ids: tuple[int, ...], cutoffs: Cutoffs) -> int:
    done = 0
    while ids:
        await hub.committer.room()
        began_s = hub.clock.monotonic_s()
        answer = await hub.committer.prune(Prune(ids, cutoffs))
        if not isinstance(answer, Resolved):
            log.error("tasks.not-pruned", first=ids[0], last=ids[-1], reason=answer.reason)
            break
        done += answer.done
        ids = ids[len(ids) - answer.left :]
        rest_s = began_s + PIECE_S - hub.clock.monotonic_s()
        if rest_s > 0:
            # Not even for no time at all where it is over: the next commit would begin without the next piece.
            await anyio.sleep(rest_s)
    return done
