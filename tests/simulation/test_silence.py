"""How long a silent client is taken for alive, in made-up time, in which no machine is slow."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from anyio import create_task_group, sleep
from structlog.typing import EventDict

from dtm.server.settings import Settings
from tests.server.live import registration
from tests.simulation.loop import SimulatedLoop, run
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.servers import PORT, Servers
from tests.simulation.world import listening_to_logs

CLIENTS = 20
TIMEOUT_S, CHECK_S = 3.0, 0.5
COMMIT_S = 0.02
"""What the simulated threads take at most to write a death down."""


def test_a_silent_client_is_dead_after_the_timeout_and_a_check_at_most(tmp_path: Path) -> None:
    """Also if the check is no multiple of the tick, and whatever the moment at which it was last heard."""
    joined, died = run(lambda loop: _silences(loop, tmp_path))
    silences_s = [died[name] - joined[name] for name in joined]

    assert len(silences_s) == CLIENTS
    assert min(silences_s) >= TIMEOUT_S
    assert max(silences_s) <= TIMEOUT_S + CHECK_S + COMMIT_S


async def _silences(loop: SimulatedLoop, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Let clients join at all moments between two checks and say nothing more; give when they joined and died."""
    chance = random.Random(1)
    network = Network(loop, chance, latency_s=0.0)
    settings = Settings(
        port=PORT, heartbeat_timeout_s=TIMEOUT_S, heartbeat_check_s=CHECK_S, dispatch_check_s=0.3, stats_interval_s=60.0
    )
    servers = Servers(loop, network, settings, folder=folder, seed=1, note=lambda *_: None)
    heard: dict[str, dict[str, float]] = {"client.register": {}, "client.died": {}}

    def hear(event: EventDict) -> None:
        if event["event"] in heard:
            heard[event["event"]][event["name"]] = loop.time()

    with listening_to_logs(hear):
        async with create_task_group() as group:
            group.start_soon(servers.run)
            await sleep(1)
            for number in range(CLIENTS):
                stream = await network.connect(Process(loop, f"c{number}"), PORT)
                await stream.send(msgspec.json.encode(registration("A", name=f"c{number}")) + b"\n")
                await sleep(0.07)
            await sleep(TIMEOUT_S + 2)
            group.cancel_scope.cancel()
    return heard["client.register"], heard["client.died"]
