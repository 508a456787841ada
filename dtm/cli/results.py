"""dtm-client result: what became of tasks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import click

from dtm.cli.credentials import credential_options, take_files
from dtm.cli.loop import run
from dtm.cli.options import Address, config_option
from dtm.cli.output import OutputFormat, Printer, TroubleOnce
from dtm.cli.remote import output_option, server_option
from dtm.client.dial import dial
from dtm.client.link import Connect
from dtm.client.producer import Producer
from dtm.client.watches import MISSING
from dtm.protocol.messages import TaskFinished

_ID = click.IntRange(0, 2**63 - 1)


@click.command()
@click.argument("ids", metavar="ID...", type=_ID, nargs=-1, required=True)
@config_option
@server_option
@credential_options
@click.option("--wait", is_flag=True, help="Wait for those that have not ended.")
@output_option
def result(*, ids: Sequence[int], server: Address, wait: bool, output: OutputFormat, **files: Any) -> int:
    """Print the results of tasks, one line each, in the order of the IDs; an empty one where there is no result.

    An ID given twice counts once. Exits with 1 if one has died or not ended, with 4 if one does not exist; the reasons
    are on standard error.
    """
    printer = Printer(output)
    connect = dial(take_files(files).read())
    run(lambda: _print(list(dict.fromkeys(ids)), server, connect, printer, wait=wait))
    return printer.exit_code


async def _print(ids: list[int], server: Address, connect: Connect, printer: Printer, *, wait: bool) -> None:
    async with Producer.open(
        server.host, server.port, connect=connect, chance=random.Random(), on_trouble=TroubleOnce()
    ) as producer:
        statuses = await producer.query(ids, follow=wait)
        for task_id, status in zip(ids, statuses, strict=True):
            if wait:
                printer.finished(await producer.end_of(task_id))
            elif status is None:
                printer.finished(TaskFinished(task_id, MISSING))
            else:
                printer.finished(TaskFinished(task_id, status.state, status.value, status.error))
