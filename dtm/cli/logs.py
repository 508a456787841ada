"""How the programs log: one handler that writes to standard error, for people or for machines.

Knows no events: whoever logs names them.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Literal, TextIO, get_args

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from dtm.client.current import current_or_none
from dtm.core.escapes import escaped

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LOG_LEVELS: tuple[LogLevel, ...] = get_args(LogLevel)

# Whatever dtm logs goes through this logger of the standard library, from whichever module.
_OURS = "dtm"
_FIRST_KEYS = ("event", "level", "timestamp")


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Send the log to standard error: what dtm and tasks log from `level` up, what libraries log from warnings up.

    A line that is written while a task runs, by whomever, names the task and its kind.
    Level debug lets libraries tell all they have to tell. Their lines and Python's warnings look like dtm's.
    Colours appear on a terminal only, and not where NO_COLOR is set (https://no-color.org).
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format, sys.stderr))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    if number == logging.INFO:
        handler.addFilter(_is_worth_reading)
    logging.getLogger(_OURS).setLevel(number)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _name_task,
            *_preparations(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: logging.getLogger(_OURS),
        # Loggers stand at the top of modules, and a cached one would keep the configuration before this.
        cache_logger_on_first_use=False,
    )


def _formatter(log_format: LogFormat, stream: TextIO) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, _name_task, *_preparations()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_for_people(stream) if log_format == "console" else _for_machines()),
        ],
    )


def _is_worth_reading(record: logging.LogRecord) -> bool:
    """Drop what libraries tell of themselves outside of any task, unless it is a warning."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == _OURS or current_or_none() is not None


def _name_task(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say in which task the line was written."""
    task = current_or_none()
    if task is not None:
        event.setdefault("task", task.id)
        event.setdefault("kind", task.kind)
    return event


def _preparations() -> Iterator[Processor]:
    yield structlog.processors.add_log_level
    yield structlog.processors.TimeStamper(fmt="iso", utc=True)


def _for_people(stream: TextIO) -> Iterator[Processor]:
    yield _escape_controls
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        # Colours on, except on a Windows without colorama.
        yield structlog.dev.ConsoleRenderer(sort_keys=False, exception_formatter=_plain_traceback)
    else:
        yield structlog.dev.ConsoleRenderer(sort_keys=False, exception_formatter=_plain_traceback, colors=False)


def _for_machines() -> Iterator[Processor]:
    yield structlog.processors.format_exc_info
    yield _order_keys
    yield structlog.processors.JSONRenderer()


def _order_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put what every line has before what only this one has."""
    return {**{key: event[key] for key in _FIRST_KEYS if key in event}, **event}


class _Shown(str):
    """A text that is escaped already: where the renderer quotes it, nothing is escaped again."""

    __slots__ = ()

    def __repr__(self) -> str:
        quote = '"' if "'" in self and '"' not in self else "'"
        return f"{quote}{self}{quote}"


def _escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Write control characters as escapes: a client's name must not repaint the operator's terminal."""
    return {key: _Shown(escaped(value)) if isinstance(value, str) else value for key, value in event.items()}


def _plain_traceback(output: TextIO, failure: ExcInfo) -> None:
    """Write a traceback line by line, escaped: the message of an exception may quote a stranger."""
    whole = io.StringIO()
    structlog.dev.plain_traceback(whole, failure)
    output.write("\n".join(map(escaped, whole.getvalue().split("\n"))))
