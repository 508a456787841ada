"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server.live import Live, Peer, serving


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    """A server that runs as long as the test."""
    async with serving(tmp_path) as live:
        yield live


@pytest.fixture
async def peer(live: Live) -> AsyncIterator[Peer]:
    """A connection to it."""
    async with live.dial() as peer:
        yield peer


@pytest.fixture
async def other(live: Live) -> AsyncIterator[Peer]:
    """Another connection to it."""
    async with live.dial() as peer:
        yield peer
