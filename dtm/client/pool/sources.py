"""From the name of a source to its handlers.

Knows no processes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping

from dtm.client.handlers import Handler
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
        raise CannotLoad(f"wanted the handler of {kind} at {source}, found {type(found).__name__} without it")
    return handler


def _resolved(source: str, kind: str) -> object:
    if source.partition(":")[0] == "__main__":
        raise CannotLoad(f"{kind} stands in the script that was started, which no other process can import: move it")
    try:
        return pkgutil.resolve_name(source)
    except (AttributeError, ValueError) as error:
        raise CannotLoad(f"wanted the handler of {kind} at {source}, found nothing there: {error}") from error
