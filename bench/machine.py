"""What was measured on: figures of two machines, or of one that was busy, are no comparison."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

import dtm
from bench.disk import fdatasync_ms


class Machine(Struct, frozen=True, kw_only=True):
    """Where and when a run began, and with what."""

    at: datetime
    cpu: str
    cores: int | None
    load: float | None
    system: str
    dtm: str
    revision: str | None
    python: str
    sqlite: str
    fdatasync_ms: float
    fdatasync_rested_ms: float
    durability: str = "synchronous=FULL"


def this_machine(folder: Path) -> Machine:
    """Look at this machine now, and at the disk of `folder`."""
    return Machine(
        at=datetime.now(UTC).replace(microsecond=0),
        cpu=_cpu(),
        cores=os.cpu_count(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=platform.platform(terse=True),
        dtm=version("durable-task-manager"),
        revision=_revision(Path(dtm.__file__).parent),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        fdatasync_ms=fdatasync_ms(folder, rested=False),
        fdatasync_rested_ms=fdatasync_ms(folder, rested=True),
    )


def _revision(folder: Path) -> str | None:
    """Name the commit that a source tree stands at; None where there is no git to ask."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
