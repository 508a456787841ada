"""dtm-server: from the command line to a running server."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import fail_after
from anyio.abc import Process
from click.testing import CliRunner, Result
from msgspec import structs

from dtm.cli.server import server
from dtm.server.limits import Limits
from dtm.server.settings import Settings
from tests.server.live import Peer
from tests.waiting import LONG_S

DURATIONS = [
    field.name.removesuffix("_s").replace("_", "-")
    for field in (*structs.fields(Settings), *structs.fields(Limits))
    if field.name.endswith("_s") and field.name != "retry_backoff_s"
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that gets further than it should must not leave a store in the source tree."""
    monkeypatch.chdir(tmp_path)


def invoke(*words: str, **environment: str) -> Result:
    """Run a command line that does not get as far as serving."""
    return CliRunner().invoke(server, list(words), env=environment)


def test_help_shows_every_setting_with_variable_and_default() -> None:
    """The defaults are those of the server's own settings."""
    text = " ".join(invoke("--help").output.split())

    fields = [field.name for field in (*structs.fields(Settings), *structs.fields(Limits)) if field.name != "limits"]
    for name in fields:
        flag = name.removesuffix("_s").replace("_", "-")
        assert f"--{flag}" in text
        assert f"DTM_{flag.replace('-', '_').upper()}" in text
    for default in (
        "default: 10s",
        "default: 30s",
        "default: 1s..5m",
        "default: tasks.db",
        "default: 12345",
        "default: 960KiB",
        "DTM_KEEP_COMPLETED; default: 7d",
        "DTM_KEEP_CANCELLED; default: 7d",
        "DTM_KEEP_DEAD; default: forever",
    ):
        assert default in text


def test_help_gives_the_limits_a_section_of_their_own() -> None:
    """Nobody has to read past them to find the rest."""
    options, _, limits = invoke("--help").output.partition("\nLimits:")

    assert "--port" in options
    assert "--max-line" not in options
    assert "--max-line" in limits


@pytest.mark.parametrize("duration", DURATIONS)
def test_a_duration_of_0_is_refused_where_nothing_would_wait(duration: str) -> None:
    """A loop that never sleeps; it is taken where it means at once."""
    # The other mistake shows that it got past the first.
    result = invoke(f"--{duration}", "0", "--heartbeat-interval", "99d" if duration != "heartbeat-interval" else "0")

    assert result.exit_code == 2
    if duration in ("reconnect-grace", "shutdown-timeout"):
        assert "wanted a --heartbeat-timeout longer than the --heartbeat-interval" in result.stderr
    else:
        assert "wanted a duration above 0" in result.stderr


@pytest.mark.parametrize(("interval", "timeout"), [("10s", "10s"), ("30s", "10s")])
def test_a_timeout_that_every_ping_would_miss_is_refused(interval: str, timeout: str) -> None:
    """It must be longer than the interval."""
    result = invoke("--heartbeat-interval", interval, "--heartbeat-timeout", timeout)

    assert result.exit_code == 2
    assert "wanted a --heartbeat-timeout longer than the --heartbeat-interval" in result.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--port", "65536"), "65536 is not in the range"),
        (("--port", "-1"), "-1 is not in the range"),
        (("--max-retries", "0"), "0 is not in the range"),
        (("--retry-backoff", "5m"), "wanted two durations"),
        (("--retry-backoff", "5m..1s"), "wanted the shorter duration first"),
        (("--retry-backoff", "0s..1s"), "above 0"),
        (("--retry-backoff", "0..0"), "above 0"),
        (("--balance", "fair"), "'fair' is not one of"),
        (("--heartbeat-check", "-1s"), "negative"),
        (("--dispatch-check", "101y"), "no unit 'y'"),
        (("--keep-completed", "7y"), "no unit 'y'; or write forever"),
        (("--keep-dead", "-1s"), "negative; or write forever"),
        (("--db", "."), "is a directory"),
        (("--max-connections", "0"), "0 is not in the range"),
        (("--max-tasks-per-submit", "10001"), "10001 is not in the range"),
        (("--max-line", "2MiB"), "wanted a size from 128KiB to 1MiB, found 2MiB"),
        (("--max-line", "1M"), "there is no unit 'M'"),
        (("--max-line", "512KiB"), "make it 448KiB or less"),
        (("--max-payload", "1MiB"), "wanted a size from 1 to 960KiB, found 1MiB"),
        (("--log-format", "xml"), "'xml' is not one of"),
        (("extra",), "unexpected extra argument"),
    ],
)
def test_a_bad_option_is_refused(words: tuple[str, ...], complaint: str) -> None:
    """As wrong usage, in words, before anything is opened."""
    result = invoke(*words)

    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_bad_variable_is_refused_by_its_name() -> None:
    """So that it is found."""
    result = invoke(DTM_PORT="http")

    assert result.exit_code == 2
    assert "DTM_PORT" in result.stderr


class Running:
    """A server process, and what it logs."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._unread = b""

    async def logged(self, event: str) -> dict[str, Any]:
        """Give the next line of its log with this name."""
        assert self.process.stderr is not None
        with fail_after(2 * LONG_S):
            while True:
                while b"\n" not in self._unread:
                    self._unread += await self.process.stderr.receive()
                line, _, self._unread = self._unread.partition(b"\n")
                found: dict[str, Any] = json.loads(line)
                if found["event"] == event:
                    return found

    async def ended(self) -> int:
        """Wait for its exit code."""
        with fail_after(LONG_S):
            return await self.process.wait()


@asynccontextmanager
async def started(folder: Path, *words: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Run `dtm-server` in a folder as long as the context lasts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DTM_")}
    command = [sys.executable, "-m", "dtm.cli.server", "--log-format", "json", *words]
    async with await anyio.open_process(command, cwd=folder, env={**environment, **(variables or {})}) as process:
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()


async def test_settings_come_from_flags_variables_and_a_file(tmp_path: Path) -> None:
    """And reach the server; told to stop, it ends well."""
    (tmp_path / "dtm.toml").write_text(
        'db = "from-file.db"\nheartbeat_interval = "1s"\nheartbeat-timeout = 7\nport = 1\nhost = "192.0.2.1"\n'
    )
    variables = {"DTM_HEARTBEAT_INTERVAL": "2s", "DTM_PORT": "0", "DTM_HOST": "127.0.0.1"}
    async with started(tmp_path, "--config", "dtm.toml", "--max-retries", "1", variables=variables) as running:
        assert (await running.logged("database"))["path"] == "from-file.db"
        address = (await running.logged("listening"))["address"]
        async with await anyio.connect_tcp("127.0.0.1", int(address.rpartition(":")[2])) as stream:
            peer = Peer(stream)
            answer = await peer.register("A")
            assert (answer["heartbeat_interval"], answer["heartbeat_timeout"]) == (2.0, 7.0)
            (id,) = await peer.submit({"kind": "A"})
            await peer.expect("Task", task_id=id)
            (task,) = await peer.query(id)
            assert task is not None
            assert task["max_retries"] == 1
            running.process.send_signal(signal.SIGTERM)
            await peer.expect("ShuttingDown")
            # It waits for the task; a second signal does not.
            running.process.send_signal(signal.SIGTERM)

            assert await peer.hear_all() == []
        assert await running.ended() == 0
    assert (tmp_path / "from-file.db").exists()
    assert (tmp_path / "dead-letter-queue.log").exists()


async def test_a_server_that_cannot_start_says_why_on_one_line(tmp_path: Path) -> None:
    """Exit code 1, no traceback."""
    (tmp_path / "tasks.db").write_text("something else")
    async with started(tmp_path) as running:
        assert running.process.stderr is not None
        heard = b"".join([part async for part in running.process.stderr])
        assert await running.ended() == 1

    (line,) = heard.decode().splitlines()
    assert line.startswith("Error: tasks.db: ")
