"""The safety lines of what leaves the store: who is taken out, with what, and how much at a time."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_RETENTION = ("tests/storage/test_retention.py",)
_COMPACTION = ("tests/storage/test_compaction.py",)

STAYS = (
    Mutation(
        name="stay: what the look found taken out without another look",
        file="dtm/storage/retention.py",
        line="_DUE = _NAMED.where(_has_outlived())\n",
        weakened="_DUE = _NAMED\n",
        tests=_RETENTION,
    ),
    Mutation(
        name="stay: for ever taken for no time at all",
        file="dtm/storage/retention.py",
        line="_NEVER = -(2**63)\n",
        weakened="_NEVER = 2**63 - 1\n",
        tests=_RETENTION,
    ),
    Mutation(
        name="stay: an attempt that tells the end gone before its task",
        file="dtm/storage/retention.py",
        line="        unfinished, _ = attempts.pop()\n",
        weakened="        unfinished, _ = attempts[-1]\n",
        tests=_RETENTION,
    ),
    Mutation(
        name="stay: a clock that was wrong hides what comes after",
        file="dtm/storage/retention.py",
        line='_IS_YOUNG = and_(tasks.c.created_at > bindparam("latest"), tasks.c.created_at <= bindparam("now"))\n',
        weakened='_IS_YOUNG = tasks.c.created_at > bindparam("latest")\n',
        tests=_RETENTION,
    ),
    Mutation(
        name="stay: a dead letter gone without a line",
        file="dtm/storage/retention.py",
        line="        deadletters.clear_old(tx, dead)\n",
        weakened="        dead = []\n",
        tests=_RETENTION,
    ),
    Mutation(
        name="stay: compacted without a look at the room",
        file="dtm/storage/compaction.py",
        line="    _require_room(_folder(connection), before.live, spare)\n",
        weakened="",
        tests=_COMPACTION,
    ),
)
