"""The servers that come from Debian's packages: found, or installed if root asks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from bench.process import Failed

# Package: the program that shows that it is there.
PROGRAMS = {"redis-server": "redis-server", "beanstalkd": "beanstalkd", "postgresql": "initdb"}
_POSTGRESQL = Path("/usr/lib/postgresql")
_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def program(name: str) -> str | None:
    """Find a program on the PATH or where Debian keeps PostgreSQL's: the newest."""
    if found := shutil.which(name):
        return found
    versions = sorted(_POSTGRESQL.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(versions[-1]) if versions else None


def require(packages: Iterable[str]) -> None:
    """See that `packages` are there; root installs what is missing.

    Raises:
        Failed: something is missing and cannot be installed.
    """
    missing = [package for package in packages if program(PROGRAMS[package]) is None]
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Failed(f"wanted Debian's packages {names}; install them: apt-get install {names}")
    for command in (("apt-get", "update"), (*_INSTALL, *missing)):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"wanted to install {names}, but {' '.join(command)} failed:\n{done.stderr}")
