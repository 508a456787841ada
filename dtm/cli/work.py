"""dtm-client work: a worker, or several of them in processes of their own."""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog
from anyio import Event
from msgspec import Struct

from dtm.cli.credentials import credential_options, take_files
from dtm.cli.loading import load_handlers
from dtm.cli.logs import LOG_FORMATS, LOG_LEVELS, LogFormat, LogLevel, configure_logging
from dtm.cli.loop import run
from dtm.cli.options import DURATION, Address, config_option, setting
from dtm.cli.processes import Supervisor
from dtm.cli.reload import run_reloading
from dtm.cli.remote import NUMBERED_NAME, server_option
from dtm.cli.signals import stop_events
from dtm.client.dial import dial
from dtm.client.handlers import Handlers, registry, select
from dtm.client.origin import Origin, told
from dtm.client.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.core.durations import format_duration
from dtm.security.credentials import Credentials
from dtm.security.files import CredentialFiles
from dtm.tasks.builtin import BUILTIN, with_failures
from dtm.tasks.server import variables

log = structlog.get_logger()

_FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)


class _Count(click.ParamType[int | None]):
    """`auto`, or a number of tasks."""

    name = "auto|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or value == "auto":
            return None
        try:
            count = int(str(value))
        except ValueError:
            count = -1
        if not 0 <= count <= MOST_PREFETCHED:
            self.fail(f"wanted auto or a number from 0 to {MOST_PREFETCHED:,}, found {value!r}", param, ctx)
        return count


MOST_PREFETCHED = 10_000


class Options(Struct, frozen=True, kw_only=True):
    """The command line of one worker process, or of several."""

    server: Address
    credentials: CredentialFiles
    name: str | None
    kinds: str | None
    app: tuple[str, ...] = ()
    app_dir: Path = Path()
    reload: bool = False
    concurrency: int
    processes: int
    prefetch: int | None
    failure_rate: float
    seed: int | None
    shutdown_timeout_s: float
    log_format: LogFormat
    log_level: LogLevel
    until_eof: bool
    check: bool


@click.command()
@config_option
@server_option
@credential_options
@setting(
    "--name", type=NUMBERED_NAME, metavar="TEXT", help="What the server calls this client; by default host and process."
)
@setting(
    "--app",
    metavar="MODULE[:NAME]",
    multiple=True,
    help="Run the tasks of this dtm.App too: package.module, or package.module:name; may be given again.",
)
@setting(
    "--app-dir", metavar="FOLDER", type=_FOLDER, default=".", help="Where the modules of --app are looked for first."
)
@click.option("--reload", is_flag=True, help="Begin anew when a .py file below --app-dir changes; for development.")
@setting("--kinds", metavar="KIND,…", help=f"The kinds to run; by default all: those of --app, {', '.join(BUILTIN)}.")
@setting(
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=os.cpu_count() or 1,
    help="Tasks run at once, each in a thread; by default the number of CPUs.",
)
@setting("--processes", type=click.IntRange(1, 1_000), default=1, help="Worker processes, each with that concurrency.")
@setting(
    "--prefetch",
    type=_Count(),
    default="auto",
    help="Tasks held beyond those that run; auto holds none of long tasks and many of short ones.",
)
@setting(
    "--failure-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Let this part of all runs fail, to see what retries do.",
)
@setting("--seed", type=int, help="Makes those failures the same in every run.")
@setting(
    "--shutdown-timeout",
    "shutdown_timeout_s",
    type=DURATION,
    default="30s",
    help="How long running tasks may take to finish when the client is told to stop.",
)
@setting("--log-format", type=click.Choice(LOG_FORMATS), default="console", help="For people, or JSON lines.")
@setting("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="How much to log.")
@click.option("--until-eof", is_flag=True, hidden=True, help="Stop at the end of standard input.")
@click.option("--check", is_flag=True, hidden=True, help="Only see whether everything is there that is to be run.")
def work(**values: Any) -> int:
    """Run tasks. This is what dtm-client does when no command is named.

    Ctrl-C or SIGTERM: take no more tasks, finish those that run, give the others back, say goodbye. A second one stops
    waiting; what still runs goes to another client without blame.
    """
    options = Options(credentials=take_files(values), **values)
    if math.isnan(options.failure_rate):
        raise click.BadParameter("wanted a rate from 0 to 1, found nan", param_hint="--failure-rate")
    configure_logging(options.log_format, options.log_level)
    if options.reload:
        return run(lambda: _work_reloading(options))
    origin = variables(options.server, options.credentials)
    with told(origin):
        handlers, credentials = _handlers(options), options.credentials.read()
        if options.check:
            return 0
        if options.processes > 1:
            return run(lambda: _work_in_processes(options))
        return run(lambda: _work(options, handlers, credentials, origin))


async def _work(options: Options, handlers: Handlers, credentials: Credentials, origin: Origin) -> int:
    settings = WorkerSettings(
        host=options.server.host,
        port=options.server.port,
        name=options.name or _default_name(),
        concurrency=options.concurrency,
        shutdown_timeout_s=options.shutdown_timeout_s,
    )
    prefetch: Prefetch = AutoPrefetch() if options.prefetch is None else FixedPrefetch(options.prefetch)
    with stop_events() as (stop, now):
        if options.until_eof:
            _stop_at_end_of_input(stop)
        connect, slots = dial(credentials), partial(threads, origin=origin)
        worker = Worker(settings, handlers, prefetch, connect=connect, slots=slots, chance=random.Random())
        unheard = await worker.run(stop, now)
    if unheard:
        log.warning("stopped", unfinished=unheard)
    return 0


async def _work_in_processes(options: Options) -> int:
    with stop_events() as (stop, now):
        failed = await Supervisor(random.Random()).run(_commands(options), stop, now)
    return min(failed, 1)


async def _work_reloading(options: Options) -> int:
    # Python tells a change by the second and the size, and would run what it had compiled before.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    check = (*_command(options, "check", 1), "--check")
    with stop_events() as (stop, now):
        failed = await run_reloading(options.app_dir, check, _commands(options), stop, now)
    return min(failed, 1)


def _commands(options: Options) -> list[Sequence[str]]:
    name = options.name or _default_name()
    return [_command(options, f"{name}-{number}", number) for number in range(1, options.processes + 1)]


def _command(options: Options, name: str, number: int) -> Sequence[str]:
    seed = () if options.seed is None else ("--seed", str(options.seed + number))
    kinds = () if options.kinds is None else ("--kinds", options.kinds)
    apps = (word for app in options.app for word in ("--app", app))
    return (
        *(sys.executable, "-m", "dtm.cli.client", "work", "--until-eof"),
        *("--server", str(options.server), *options.credentials.words(), "--name", name, *kinds),
        *apps,
        *("--app-dir", str(options.app_dir)),
        *("--concurrency", str(options.concurrency), "--processes", "1"),
        *("--prefetch", "auto" if options.prefetch is None else str(options.prefetch)),
        *("--failure-rate", str(options.failure_rate), *seed),
        *("--shutdown-timeout", format_duration(options.shutdown_timeout_s)),
        *("--log-format", options.log_format, "--log-level", options.log_level),
    )


def _handlers(options: Options) -> Handlers:
    handlers = load_handlers(BUILTIN, options.app, options.app_dir)
    if options.kinds is not None:
        handlers = select(handlers, [kind.strip() for kind in options.kinds.split(",")])
    if not options.failure_rate:
        return handlers
    chance = random.Random(options.seed)
    return registry(*(with_failures(handler, options.failure_rate, chance) for handler in handlers.values()))


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _stop_at_end_of_input(stop: Event) -> None:
    loop = asyncio.get_running_loop()

    def read_to_the_end() -> None:
        # Not through the buffer, whose lock would be held when the program ends.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=read_to_the_end, name="end-of-input", daemon=True).start()
