"""The log of a process of the pool: everything goes to the client, which writes it where its own lines go.

Knows no formats: the client renders.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from dtm.client.pool.speech import Logged

Say = Callable[[Logged], None]

_MOST_INTEGER = 2**63
# A line of the log is read by people; and the client reads no endless lines.
_MOST_CHARACTERS = 64 * 1024


def forward_logs(say: Say, level: int) -> None:
    """Hand everything that is logged here from `level` up to `say`, by structlog and by the standard library."""
    root = logging.getLogger()
    root.handlers = [_Forwarder(say)]
    root.setLevel(level)
    logging.captureWarnings(True)

    def forward(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
        number = logging.getLevelNamesMapping().get(method.upper(), logging.ERROR)
        say(Logged(number, "", _text(str(event.pop("event", ""))), _plain(event)))
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, forward],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


class _Forwarder(logging.Handler):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        values = {}
        if record.exc_info and record.exc_info[0] is not None:
            values["exception"] = self._formatter.formatException(record.exc_info)
        self._say(Logged(record.levelno, record.name, _text(record.getMessage()), _plain(values)))


def _plain(values: EventDict | dict[str, Any]) -> dict[str, Any]:
    return {_text(str(name)): _plain_value(value) for name, value in values.items()}


def _plain_value(value: object) -> object:
    """Keep what JSON can hold and the other side can read; of anything else, what a person reads."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < _MOST_INTEGER:
        return int(value)
    return _text(repr(value))


def _text(text: str) -> str:
    return text[:_MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")
