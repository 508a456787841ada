"""A real client whose handlers hash texts under other names of kinds: as `dtm-client work` otherwise.

python -m bench.hasher ADDRESS KIND,KIND,…
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence

import click

from dtm.cli.logs import configure_logging
from dtm.cli.loop import run
from dtm.cli.options import ADDRESS, Address
from dtm.cli.signals import stop_events
from dtm.client.dial import dial
from dtm.client.handlers import Handler, registry
from dtm.client.prefetch import AutoPrefetch
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.security.credentials import NO_CREDENTIALS


@click.command()
@click.argument("address", type=ADDRESS)
@click.argument("kinds")
def main(*, address: Address, kinds: str) -> None:
    """Run tasks of these kinds until the process is told to stop."""
    configure_logging("json", "info")
    run(lambda: _work(address, kinds.split(",")))


async def _work(address: Address, kinds: Sequence[str]) -> None:
    settings = WorkerSettings(
        host=address.host,
        port=address.port,
        name="hasher",
        concurrency=os.cpu_count() or 1,
        shutdown_timeout_s=30.0,
    )
    handlers = registry(*(Handler(kind, _hash, payload_type=str) for kind in kinds))
    with stop_events() as (stop, now):
        worker = Worker(
            settings,
            handlers,
            AutoPrefetch(),
            connect=dial(NO_CREDENTIALS),
            slots=threads,
            chance=random.Random(),
        )
        await worker.run(stop, now)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
