"""dtm-server: from the command line to a running server."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import structlog
from msgspec import structs

from dtm.cli.limits import limit_options, take_limits
from dtm.cli.logs import LOG_FORMATS, LOG_LEVELS, LogFormat, LogLevel, configure_logging
from dtm.cli.loop import collect_rarely, run
from dtm.cli.options import (
    DURATION,
    DURATION_RANGE,
    EXIT_USAGE,
    FOREVER,
    STAY,
    SectionedCommand,
    config_option,
    run_cli,
    setting,
    version_option,
)
from dtm.cli.security import security_options
from dtm.cli.signals import on_hangup, stop_events
from dtm.core.durations import format_duration
from dtm.core.errors import DtmError
from dtm.security.errors import Misconfigured
from dtm.server.app import StopRequest, serve
from dtm.server.descriptors import raise_limit
from dtm.server.limits import Limits
from dtm.server.machine import this_machine
from dtm.server.protection import refuse_exposure
from dtm.server.settings import BALANCES, Settings

log = structlog.get_logger()

EXIT_CODES: dict[type[DtmError], int] = {Misconfigured: EXIT_USAGE}
_DEFAULT = Settings()
_MAY_BE_ZERO = ("reconnect_grace_s", "shutdown_timeout_s")
_FILE = click.Path(dir_okay=False, path_type=Path)


def _duration(flag: str, text: str) -> Callable[[Any], Any]:
    field = f"{flag.removeprefix('--').replace('-', '_')}_s"
    default = format_duration(getattr(_DEFAULT, field))
    return setting(flag, field, type=DURATION, default=default, help=text, callback=_above_zero)


def _stay(flag: str, text: str) -> Callable[[Any], Any]:
    field = f"{flag.removeprefix('--').replace('-', '_')}_s"
    stay_s = getattr(_DEFAULT, field)
    default = FOREVER if math.isinf(stay_s) else format_duration(stay_s)
    return setting(flag, field, type=STAY, default=default, help=text, callback=_above_zero)


def _above_zero(_: click.Context, option: click.Parameter, value: float) -> float:
    if value == 0 and option.name not in _MAY_BE_ZERO:
        raise click.BadParameter("wanted a duration above 0")
    return value


def _from_above_zero(_: click.Context, __: click.Parameter, value: tuple[float, float]) -> tuple[float, float]:
    if value[0] == 0:
        raise click.BadParameter("wanted durations above 0; doubled, 0 stays 0")
    return value


def _backoff() -> str:
    first_s, last_s = _DEFAULT.retry_backoff_s
    return f"{format_duration(first_s)}..{format_duration(last_s)}"


@click.command(cls=SectionedCommand, context_settings={"max_content_width": 110})
@config_option
@setting("--db", type=_FILE, default=str(_DEFAULT.db), help="The database file; created if there is none.")
@setting("--host", default=_DEFAULT.host, help="Address to listen on.")
@setting("--port", type=click.IntRange(0, 65_535), default=_DEFAULT.port, help="Port to listen on; 0 picks one.")
@setting(
    "--dead-letter-log",
    type=_FILE,
    default=str(_DEFAULT.dead_letter_log),
    help="The audit trail of dead letters, one JSON line an event.",
)
@setting(
    "--max-retries",
    type=click.IntRange(1, 1_000_000),
    default=_DEFAULT.max_retries,
    help="The failed attempt of this number is a task's last, unless the task says otherwise.",
)
@setting(
    "--retry-backoff",
    "retry_backoff_s",
    type=DURATION_RANGE,
    default=_backoff(),
    help="First and longest wait before a failed task is tried again; doubles in between.",
    callback=_from_above_zero,
)
@setting(
    "--balance",
    type=click.Choice(BALANCES),
    default=_DEFAULT.balance,
    help="Which of the clients with room gets a task.",
)
@_duration("--heartbeat-interval", "How often a client is to ping.")
@_duration("--heartbeat-timeout", "How long a client may be silent before it counts as dead.")
@_duration("--heartbeat-check", "How often that is checked.")
@_duration("--reconnect-grace", "How long a client whose connection broke may take to come back.")
@_duration("--dispatch-check", "How often to look for scheduled tasks that have fallen due.")
@_stay("--keep-completed", "How long completed tasks stay, their results, attempts and keys with them.")
@_stay("--keep-cancelled", "How long cancelled and expired tasks stay.")
@_stay("--keep-dead", "How long dead tasks stay; then they are cleared, and the dead-letter log says so.")
@_duration("--stats-interval", "How often the log reports statistics.")
@_duration("--shutdown-timeout", "How long running tasks may take to finish when the server is told to stop.")
@setting("--demo/--no-demo", default=_DEFAULT.demo, help="Submit a built-in task now and then.")
@_duration("--demo-interval", "How often the demo submits a task.")
@setting(
    "--log-format", type=click.Choice(LOG_FORMATS), default="console", help="For people, or one JSON object a line."
)
@setting("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="debug tells of every single task.")
@security_options
@limit_options
@version_option
def server(*, log_format: LogFormat, log_level: LogLevel, **values: Any) -> None:
    """Keep tasks in one SQLite file and hand them out to clients.

    Ctrl-C or SIGTERM drains: no new assignments, running tasks may finish, the rest is requeued without blame.
    A second one stops waiting. SIGHUP puts the dead-letter log aside under a name of its own and begins a new one.

    \b
    Examples:
      dtm-server --db tasks.db
      DTM_PORT=23456 dtm-server --retry-backoff 500ms..1m
      dtm-server --config dtm.toml --log-format json
    """
    configure_logging(log_format, log_level)
    settings = Settings(limits=_fitted(take_limits(values)), **values)
    if settings.heartbeat_timeout_s <= settings.heartbeat_interval_s:
        raise click.UsageError("wanted a --heartbeat-timeout longer than the --heartbeat-interval")

    async def main() -> None:
        await refuse_exposure(settings)
        with stop_events() as (drain, now):
            stop = StopRequest(drain, now)
            with on_hangup(stop.rotate.ring):
                await serve(settings, stop, this_machine())

    collect_rarely()
    run(main)


def _fitted(limits: Limits) -> Limits:
    """Lower the limit of connections to what the system allows: those beyond would find no descriptor and no answer."""
    possible = raise_limit(limits.max_connections)
    if possible < limits.max_connections:
        log.warning(
            "connections.limited",
            wanted=limits.max_connections,
            possible=possible,
            why="this process may open no more files; raise its hard limit (ulimit -Hn, LimitNOFILE=)",
        )
    return structs.replace(limits, max_connections=possible)


def main() -> None:
    """Run dtm-server."""
    sys.exit(run_cli(server, exit_codes=EXIT_CODES))


if __name__ == "__main__":
    main()
