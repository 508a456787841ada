"""What peers keep their tasks in: real servers on loopback, each with its data in a folder of the run."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from bench.peers.debian import program
from bench.process import Failed, running_program

HOST = "127.0.0.1"
# Durability as PostgreSQL has it by default, said once more; memory and log as its manual advises for many writes.
POSTGRESQL_SETTINGS = ("fsync=on", "synchronous_commit=on", "shared_buffers=256MB", "max_wal_size=2GB")


class Store(Struct, frozen=True):
    """A sort of server (or of file), set to one durability."""

    package: str | None
    name: str
    durability: str
    # Whether an answer waits until the disk has what it speaks of, as dtm's do.
    equal: bool
    running: Callable[[Path], AbstractContextManager[str]]
    version: Callable[[], str]


@contextmanager
def _redis(folder: Path, fsync: str) -> Iterator[str]:
    port, password = _free_port(), secrets.token_hex()
    settings = {
        "bind": HOST,
        "port": port,
        "requirepass": password,
        "dir": folder,
        "save": '""',
        "appendonly": "yes",
        "appendfsync": fsync,
    }
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with running_program((_found("redis-server"), str(config)), folder / "redis.log") as server:
        server.wait_for(lambda: _answers(port), "listen", timeout_s=30)
        yield f"redis://:{password}@{HOST}:{port}"


@contextmanager
def _beanstalkd(folder: Path, fsync_ms: int) -> Iterator[str]:
    port, log = _free_port(), folder / "binlog"
    log.mkdir()
    command = (_found("beanstalkd"), "-l", HOST, "-p", str(port), "-b", str(log), f"-f{fsync_ms}")
    with running_program(command, folder / "beanstalkd.log") as server:
        server.wait_for(lambda: _answers(port), "listen", timeout_s=30)
        yield f"{HOST}:{port}"


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    # PostgreSQL refuses to run as root; Debian's package has made a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    home, port, password = folder / "postgresql", _free_port(), secrets.token_hex()
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    home.mkdir()
    if user:
        for path in (home, secret):
            shutil.chown(path, user)
    init = ("initdb", "--pgdata", str(home), "--username=bench", "--auth=scram-sha-256", f"--pwfile={secret}")
    done = subprocess.run(
        (_found(init[0]), *init[1:], "--encoding=UTF8", "--locale=C"),
        user=user,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"wanted a database cluster, but initdb failed:\n{done.stderr}")
    settings = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", *POSTGRESQL_SETTINGS)
    command = (_found("postgres"), "-D", str(home), *(word for setting in settings for word in ("-c", setting)))
    # SIGINT ends it without waiting until every client has hung up.
    with running_program(command, folder / "postgresql.log", user=user, stop=signal.SIGINT) as server:
        server.wait_for(lambda: _says(folder / "postgresql.log", "ready to accept"), "be ready", timeout_s=30)
        yield f"postgresql://bench:{password}@{HOST}:{port}/postgres"


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield str(folder / "tasks.db")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool | None:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return None
    return True


def _says(log: Path, words: str) -> bool | None:
    return True if words in log.read_text() else None


def _found(name: str) -> str:
    if (path := program(name)) is None:
        raise Failed(f"wanted the program {name}, found none")
    return path


def _version(name: str, option: str) -> str:
    said = subprocess.run((_found(name), option), capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.[\d.]+", said)
    return found[0] if found else said.strip()


STORES = {
    "redis": Store(
        package="redis-server",
        name="Redis",
        durability="appendfsync always",
        equal=True,
        running=partial(_redis, fsync="always"),
        version=partial(_version, "redis-server", "--version"),
    ),
    "redis-everysec": Store(
        package="redis-server",
        name="Redis",
        durability="appendfsync everysec",
        equal=False,
        running=partial(_redis, fsync="everysec"),
        version=partial(_version, "redis-server", "--version"),
    ),
    "beanstalkd": Store(
        package="beanstalkd",
        name="beanstalkd",
        durability="-f0: fsync on every write",
        equal=True,
        running=partial(_beanstalkd, fsync_ms=0),
        version=partial(_version, "beanstalkd", "-v"),
    ),
    "beanstalkd-50ms": Store(
        package="beanstalkd",
        name="beanstalkd",
        durability="-f50: fsync every 50 ms",
        equal=False,
        running=partial(_beanstalkd, fsync_ms=50),
        version=partial(_version, "beanstalkd", "-v"),
    ),
    "postgresql": Store(
        package="postgresql",
        name="PostgreSQL",
        durability="synchronous_commit=on",
        equal=True,
        running=_postgresql,
        version=partial(_version, "postgres", "--version"),
    ),
    "sqlite": Store(
        package=None,
        name="SQLite",
        durability="synchronous=FULL",
        equal=True,
        running=_sqlite,
        version=lambda: sqlite3.sqlite_version,
    ),
}
