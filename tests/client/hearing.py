"""One read of a link after the other."""

from __future__ import annotations

from collections.abc import Iterable

from dtm.client.link import Link
from dtm.protocol.messages import ServerMessage


class _Enough(Exception):
    """Something came."""


async def next_from(link: Link) -> list[ServerMessage]:
    """Wait for what comes next, and give the messages that it ends.

    Raises:
        LinkLost: as `Link.listen`.
    """
    heard: list[ServerMessage] = []

    def hear(messages: Iterable[ServerMessage]) -> None:
        heard.extend(messages)
        raise _Enough

    try:
        await link.listen(hear)
    except _Enough:
        return heard
