"""dtm-client submit: tasks from the command line, a file or a pipe, and, if wanted, their results."""

from __future__ import annotations

import random
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click
from anyio import BrokenResourceError, Event, create_memory_object_stream, create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream

from dtm.cli.credentials import credential_options, take_files
from dtm.cli.input import BadInput, Template, read_tasks
from dtm.cli.loop import run
from dtm.cli.options import DURATION, Address, config_option
from dtm.cli.output import Printer, TroubleOnce
from dtm.cli.progress import Progress
from dtm.cli.remote import NAME, NUMBERED_NAME, output_option, server_option
from dtm.client.dial import dial
from dtm.client.link import Connect
from dtm.client.producer import Producer
from dtm.protocol.messages import SubmittedTask

MOST_PARTS = 8
"""Submissions whose tasks are not all printed yet: the bound of the memory this takes."""

_NEGATIVE = re.compile(r"-\d+")

Tasks = AsyncIterator[list[SubmittedTask]]


class _TakesNegatives(click.Command):
    """A command that takes `-7` for an argument, not for a mistyped option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        wants_value = {
            name
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
        }
        numbers = {at for at, word in enumerate(args) if _NEGATIVE.fullmatch(word) and args[at - 1] not in wants_value}
        if numbers and "--" not in args:
            options = [word for at, word in enumerate(args) if at not in numbers]
            args = [*options, "--", *(args[at] for at in sorted(numbers))]
        return super().parse_args(ctx, args)


@click.command(cls=_TakesNegatives)
@click.argument("kind", type=NAME)
@click.argument("payload", required=False)
@config_option
@server_option
@credential_options
@click.option(
    "--file", type=click.Path(path_type=Path), help="Submit one task for each line of this file; - for standard input."
)
@click.option("--json", "is_json", is_flag=True, help="Payloads are JSON; otherwise they are text.")
@click.option(
    "--key",
    type=NUMBERED_NAME,
    help="Names the task: the same key again gives the same task. Lines get KEY-1, KEY-2, …",
)
@click.option(
    "--priority", type=click.IntRange(-(2**31), 2**31 - 1), default=0, help="Higher runs first.  [default: 0]"
)
@click.option("--delay", type=DURATION, help="Do not run before so much time has passed.")
@click.option("--max-retries", type=click.IntRange(1, 1_000_000), help="Overrides the server's.")
@click.option("--wait", is_flag=True, help="Wait for the results and print them, one line a task, in order.")
@output_option
def submit(**values: Any) -> int:
    """Submit a task of KIND with PAYLOAD, or with - one task for each line of standard input.

    Prints each task's id once it is on the server's disk; with --wait its result instead. Exits with 1 if a task died.

    \b
    Examples:
      dtm-client submit HashText hello --wait
      dtm-client submit CheckPrime -7 --wait
      seq 1 100000 | dtm-client submit CheckPrime - --wait
      dtm-client submit HashText --file words.txt --key words-2026 --wait -o json
    """
    payload, file = values["payload"], values["file"]
    if (payload is None) == (file is None):
        raise click.UsageError("wanted either a PAYLOAD (- reads lines from standard input) or --file FILE")
    template = Template(
        kind=values["kind"],
        is_json=values["is_json"],
        key=values["key"] or secrets.token_hex(8),
        priority=values["priority"],
        delay=values["delay"],
        max_retries=values["max_retries"],
    )
    printer = Printer(values["output"])
    connect = dial(take_files(values).read())
    with ExitStack() as stack:
        is_one = file is None and payload != "-"
        tasks = _one(template, payload) if is_one else read_tasks(stack.enter_context(_opened(file)), template)
        run(lambda: _Submission(tasks, printer, follow=values["wait"]).run(values["server"], connect))
    return printer.exit_code


async def _one(template: Template, payload: str) -> Tasks:
    yield [template.task(payload.encode("utf-8", "surrogateescape"), template.key)]


def _opened(path: Path | None) -> AbstractContextManager[BinaryIO]:
    if path is None or str(path) == "-":
        if sys.stdin is None:
            raise BadInput("wanted lines from standard input, found it closed; name a --file")
        return nullcontext(sys.stdin.buffer)
    try:
        # Unbuffered: a buffer could not be closed while a thread waits for a pipe to fill it.
        return path.open("rb", buffering=0)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


class _Part:
    """Tasks that are submitted together."""

    def __init__(self, tasks: list[SubmittedTask]) -> None:
        self.tasks = tasks
        self.ids: list[int] = []
        self.accepted = Event()


class _Submission:
    """Everything one command submits: read, submitted and printed at the same time, in order."""

    def __init__(self, tasks: Tasks, printer: Printer, *, follow: bool) -> None:
        self._tasks = tasks
        self._printer = printer
        self._follow = follow

    async def run(self, server: Address, connect: Connect) -> None:
        """Submit all and, if wanted, wait for all."""
        trouble = TroubleOnce()
        async with Producer.open(
            server.host, server.port, connect=connect, chance=random.Random(), on_trouble=trouble
        ) as producer:
            parts_in, parts_out = create_memory_object_stream[_Part](MOST_PARTS)
            with Progress("Finished" if self._follow else "Submitted") as progress:
                async with create_task_group() as group:
                    group.start_soon(self._print, producer, parts_out, progress)
                    # A printer that has failed says why by itself.
                    with parts_in, suppress(BrokenResourceError):
                        async for part in self._parts():
                            progress.expect(len(part.tasks))
                            group.start_soon(self._submit, producer, part)
                            await parts_in.send(part)

    async def _parts(self) -> AsyncIterator[_Part]:
        try:
            async for tasks in self._tasks:
                yield _Part(tasks)
        except BadInput as error:
            # What was read before it is on its way, and the user is to learn what becomes of it.
            self._printer.unreadable(str(error))

    async def _submit(self, producer: Producer, part: _Part) -> None:
        part.ids = await producer.submit_in_parts(part.tasks, follow=self._follow)
        part.accepted.set()

    async def _print(self, producer: Producer, parts: MemoryObjectReceiveStream[_Part], progress: Progress) -> None:
        async with parts:
            async for part in parts:
                if not part.accepted.is_set():
                    self._printer.flush()
                    await part.accepted.wait()
                for task_id in part.ids:
                    if self._follow:
                        if not producer.has_ended(task_id):
                            self._printer.flush()
                        self._printer.finished(await producer.end_of(task_id))
                    else:
                        self._printer.accepted(task_id)
                    progress.advance()
