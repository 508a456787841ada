"""What a server has logged, with its own time: intervals are measured by it, not by when a test came to look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tests.wire import Line

JSON = ("--log-format", "json")
"""Options under which a server's log can be read here."""


def events(folder: Path, name: str) -> list[Line]:
    """Give what the servers of that folder have logged under this name; `at` is seconds since 1970."""
    return [entry for entry in _entries(folder) if entry["event"] == name]


def _entries(folder: Path) -> Iterator[Line]:
    for log in sorted(folder.glob("*-dtm-server.log")):
        for text in log.read_text().splitlines():
            if text.startswith("{") and text.endswith("}"):
                entry = json.loads(text)
                yield {**entry, "at": datetime.fromisoformat(entry["timestamp"]).timestamp()}
