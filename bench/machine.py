"""What was measured on: figures of two machines, or of one that was busy, are no comparison."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct


class Machine(Struct, frozen=True, kw_only=True):
    """Where and when a run began, and with what."""

    at: datetime
    cpu: str
    cores: int | None
    load: float | None
    system: str
    dtm: str
    python: str
    sqlite: str
    durability: str = "synchronous=FULL"


def this_machine() -> Machine:
    """Look at this machine now."""
    return Machine(
        at=datetime.now(UTC).replace(microsecond=0),
        cpu=_cpu(),
        cores=os.cpu_count(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=platform.platform(terse=True),
        dtm=version("durable-task-manager"),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
