"""From the name of a source to its handlers.

Knows no processes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping

from dtm.client.handlers import Handler, Handlers
from dtm.core.errors import DtmError


class CannotLoad(DtmError):
    """The handler of a kind cannot be found where it should be."""


def load(source: str, kind: str) -> Handler:
    """Import the handler of `kind` from `source`: `module:name` of handlers, or of what has `handlers`.

    Raises:
        CannotLoad: it is not there.
        Exception: whatever the import raises.
    """
    found = _resolved(source, kind)
    handlers = found if isinstance(found, Mapping) else getattr(found, "handlers", None)
    handler = handlers.get(kind) if isinstance(handlers, Mapping) else None
    if not isinstance(handler, Handler):
        raise CannotLoad(
            f"wanted the handler of {kind} at {source}, found {type(found).__name__} without it;"
            " give the task the name of its function in the function's module"
        )
    return handler


def require_sources(handlers: Handlers) -> None:
    """See that a process will find the handlers that are for one where they say.

    Raises:
        CannotLoad: one of them is not there.
    """
    for kind, handler in handlers.items():
        if handler.executor == "process" and load(handler.source or "", kind) is not handler:
            raise CannotLoad(f"wanted the handler of {kind} at {handler.source}, found another; rename one of them")


def _resolved(source: str, kind: str) -> object:
    if source.partition(":")[0] == "__main__":
        raise CannotLoad(f"{kind} stands in the script that was started, which no other process can import: move it")
    try:
        return pkgutil.resolve_name(source)
    except (AttributeError, ValueError) as error:
        raise CannotLoad(f"wanted the handler of {kind} at {source}, found nothing there: {error}") from error
