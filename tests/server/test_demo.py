"""The demo: something moves at a first look."""

from __future__ import annotations

from pathlib import Path

from tests.server.live import serving
from tests.waiting import eventually


async def test_tasks_of_the_built_in_kinds_come_now_and_then(tmp_path: Path) -> None:
    """Both kinds, with payloads that their handlers take, until the server ends."""
    async with serving(tmp_path, demo=True, demo_interval_s=0.005) as live, live.dial() as peer:
        await peer.register("CheckPrime", "HashText", capacity=1_000)
        seen: dict[str, object] = {}
        while len(seen) < 2:
            task = await peer.expect("Task")
            seen[task["kind"]] = task["payload"]

        assert isinstance(seen["CheckPrime"], int)
        assert str(seen["HashText"]).startswith("demo ")
        await eventually(lambda: live.logged("demo.submit"))


async def test_a_server_that_drains_makes_no_more_of_them(tmp_path: Path) -> None:
    """Whoever submits is refused then; the demo is no exception."""
    async with serving(tmp_path, demo=True, demo_interval_s=0.005) as live, live.dial() as peer:
        await peer.register("CheckPrime", "HashText")
        await peer.expect("Task")
        live.stop.drain.set()
        await peer.expect("ShuttingDown")
        # One may have been on its way.
        looks = [await peer.query(*range(1, 200)) for _ in range(60)]

        assert looks[30] == looks[-1]
