"""dtm-client work: its options, and its processes, for real."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from anyio import fail_after
from anyio.abc import Process

from dtm.cli.options import take_files
from dtm.cli.work import Options, _commands, _handlers, work
from tests.cli.site import Terminal
from tests.server.live import Live, serving
from tests.waiting import LONG_S, eventually

posix_only = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")


# Options.


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--concurrency", "0"), "0 is not in the range"),
        (("--processes", "0"), "0 is not in the range"),
        (("--prefetch", "-1"), "wanted auto or a number from 0 to 10,000, found '-1'"),
        (("--prefetch", "many"), "wanted auto or a number from 0 to 10,000, found 'many'"),
        (("--prefetch", "10001"), "wanted auto or a number"),
        (("--failure-rate", "1.1"), "1.1 is not in the range"),
        (("--failure-rate", "nan"), "wanted a rate from 0 to 1, found nan"),
        (("--shutdown-timeout", "soon"), "wanted a duration"),
        (("--server", "nowhere"), "add a port"),
        (("--log-level", "loud"), "'loud' is not one of"),
        (("extra",), "unexpected extra argument"),
    ],
)
def test_a_bad_option_is_refused(terminal: Terminal, words: tuple[str, ...], complaint: str) -> None:
    """As wrong usage, before anything is connected."""
    outcome = terminal.run("work", *words)

    assert outcome.code == 2
    assert complaint in outcome.err


def test_a_kind_that_no_handler_runs_is_refused(terminal: Terminal) -> None:
    """With those there are."""
    outcome = terminal.run("work", "--kinds", "HashText,CheckPrimes")

    assert outcome.code == 1
    assert "no handler runs the kind 'CheckPrimes'; the kinds known here are: CheckPrime, HashText" in outcome.err


def options(*words: str, **changes: Any) -> Options:
    """Read a command line, and change some of what it says."""
    with work.make_context("work", list(words)) as context:
        values = {**context.params, **changes}
        return Options(credentials=take_files(values), **values)


def test_the_defaults_are_those_of_a_first_try() -> None:
    """One process, as many threads as there are CPUs, a server on this machine."""
    found = options()

    assert (str(found.server), found.processes, found.concurrency) == ("127.0.0.1:12345", 1, os.cpu_count())
    assert (found.prefetch, found.failure_rate, found.kinds, found.until_eof) == (None, 0.0, None, False)


def test_kinds_are_kept_in_their_order() -> None:
    """Blanks around them do not matter."""
    assert list(_handlers(options(kinds="HashText , CheckPrime"))) == ["HashText", "CheckPrime"]
    assert list(_handlers(options(kinds="HashText", failure_rate=0.5))) == ["HashText"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kinds": "HashText", "concurrency": 3, "prefetch": 7, "shutdown_timeout_s": 1.5},
        {"prefetch": 0, "failure_rate": 1e-7, "seed": -5, "shutdown_timeout_s": 0.00001},
        {"token_file": Path("t"), "tls": True},
        {"app": ("shop.tasks:app", "more"), "app_dir": Path("/")},
        {"tls_ca": Path("ca.pem"), "tls_cert": Path("c.pem"), "tls_key": Path("k.pem")},
        {"log_format": "json", "log_level": "debug", "shutdown_timeout_s": 100 * 365 * 86_400.0},
    ],
)
def test_each_process_gets_the_options_of_the_whole(changes: dict[str, Any]) -> None:
    """Whatever they are; only name and seed are its own, so that they do not fail in step."""
    whole = options(name="w", processes=3, **changes)
    found = []
    for command in _commands(whole):
        assert command[:4] == (sys.executable, "-m", "dtm.cli.client", "work")
        found.append(options(*command[4:]))

    assert [one.name for one in found] == ["w-1", "w-2", "w-3"]
    assert {one.processes for one in found} == {1}
    assert all(one.until_eof for one in found)
    if whole.seed is not None:
        assert [one.seed for one in found] == [whole.seed + number for number in (1, 2, 3)]
    for field in (
        "server",
        "credentials",
        "kinds",
        "app",
        "app_dir",
        "concurrency",
        "prefetch",
        "failure_rate",
        "log_format",
        "log_level",
    ):
        assert {getattr(one, field) for one in found} == {getattr(whole, field)}
    assert {one.shutdown_timeout_s for one in found} == {whole.shutdown_timeout_s}


# Real processes.


@asynccontextmanager
async def started(
    live: Live, *words: str, stderr: IO[bytes] | None = None, cwd: Path | None = None
) -> AsyncIterator[Process]:
    """Run `dtm-client work` as long as the context lasts."""
    command = [sys.executable, "-m", "dtm.cli.client", "work", "--server", f"127.0.0.1:{live.port}", "--name", "w"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DTM_")}
    async with await anyio.open_process(
        [*command, *words], env=environment, stdin=None, stderr=stderr, cwd=cwd
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def registered(live: Live, count: int) -> list[str]:
    """Wait until so many workers have been let in, and give their names."""
    await eventually(lambda: len(live.logged("client.register")) >= count, within_s=2 * LONG_S)
    return [event["name"] for event in live.logged("client.register")]


def children(pid: int) -> list[int]:
    """Say which processes a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_told_to_stop_says_goodbye(tmp_path: Path, number: signal.Signals) -> None:
    """And ends well."""
    async with serving(tmp_path) as live, started(live, "--kinds", "HashText", "--concurrency", "3") as process:
        assert await registered(live, 1) == ["w"]
        assert live.logged("client.register")[0]["kinds"] == ["HashText"]
        process.send_signal(number)
        with fail_after(LONG_S):
            assert await process.wait() == 0

        await eventually(lambda: live.logged("client.left"))
        assert [event["why"] for event in live.logged("client.left")] == ["goodbye"]


@posix_only
async def test_two_processes_are_two_workers(tmp_path: Path) -> None:
    """One that is killed is started again and takes up its name; told to stop, both say goodbye."""
    async with serving(tmp_path) as live, started(live, "--processes", "2", "--concurrency", "1") as process:
        assert sorted(await registered(live, 2)) == ["w-1", "w-2"]
        victim, survivor = children(process.pid)
        os.kill(victim, signal.SIGKILL)
        names = await registered(live, 3)
        assert names[2] in ("w-1", "w-2")
        assert survivor in children(process.pid)
        process.send_signal(signal.SIGTERM)
        with fail_after(LONG_S):
            assert await process.wait() == 0

        await eventually(lambda: len([e for e in live.logged("client.left") if e["why"] == "goodbye"]) == 2)


@posix_only
async def test_processes_do_not_outlive_the_one_that_started_them(tmp_path: Path) -> None:
    """Even if that was killed: the end of their input tells them, and they leave in good order."""
    async with serving(tmp_path) as live, started(live, "--processes", "2", "--concurrency", "1") as process:
        await registered(live, 2)
        orphans = children(process.pid)
        process.send_signal(signal.SIGKILL)
        await process.wait()

        await eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in orphans))
        assert sorted(event["why"] for event in live.logged("client.left")) == ["goodbye", "goodbye"]


# A user's own tasks.

TASKS = """
import os, dtm
app = dtm.App()

@app.task(executor="{executor}")
def shout(word: str) -> list[str]:
    return [word.upper() + "{mark}", str(os.getpid())]
"""


def write_tasks(folder: Path, *, executor: str = "thread", mark: str = "!") -> None:
    """Write a user's module."""
    (folder / "shop_tasks.py").write_text(TASKS.format(executor=executor, mark=mark))


async def shouted(live: Live, word: str) -> tuple[str, int]:
    """Submit a task, and give its result and the process that it ran in."""
    async with live.dial() as peer:
        (id,) = await peer.submit({"kind": "shout", "payload": {"word": word}}, notify=True)
        with fail_after(3 * LONG_S):
            end = await peer.expect("TaskFinished", task_id=id, state="completed")
    return end["value"][0], int(end["value"][1])


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_tasks_of_a_users_app_run(tmp_path: Path, executor: str) -> None:
    """In the worker, or in a process of its pool, which finds the module too."""
    write_tasks(tmp_path, executor=executor)
    options = ("--app", "shop_tasks", "--app-dir", str(tmp_path), "--kinds", "shout")
    async with serving(tmp_path) as live, started(live, *options) as process:
        await registered(live, 1)
        assert live.logged("client.register")[0]["kinds"] == ["shout"]
        word, pid = await shouted(live, "ho")

        assert word == "HO!"
        assert (pid == process.pid) == (executor == "thread")
        process.send_signal(signal.SIGTERM)
        with fail_after(LONG_S):
            assert await process.wait() == 0


@posix_only
async def test_a_change_of_a_module_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --reload: by new processes, after the old ones have left in good order; a broken module is waited for.

    Also within the second, and at the same size: Python itself would go by what it compiled before.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    module = tmp_path / "shop_tasks.py"
    write_tasks(tmp_path)
    written_ns = module.stat().st_mtime_ns
    options = ("--app", "shop_tasks:app", "--app-dir", str(tmp_path), "--reload", "--processes", "2")
    async with serving(tmp_path) as live, started(live, *options, "--concurrency", "1") as process:
        await registered(live, 2)
        assert (await shouted(live, "ho"))[0] == "HO!"
        module.write_text("def broken(:")
        await eventually(lambda: len(live.logged("client.left")) == 2, within_s=3 * LONG_S)
        write_tasks(tmp_path, mark="?")
        os.utime(module, ns=(written_ns, written_ns))
        await registered(live, 4)

        assert (await shouted(live, "ho"))[0] == "HO?"
        assert {event["why"] for event in live.logged("client.left")} == {"goodbye"}
        process.send_signal(signal.SIGTERM)
        with fail_after(LONG_S):
            assert await process.wait() == 0


def put(folder: Path, text: str) -> None:
    """Replace a user's module in one step: nobody sees half of it."""
    draft = folder / "draft"
    draft.write_text(text)
    draft.replace(folder / "shop_tasks.py")


@posix_only
async def test_what_is_broken_is_said_once(tmp_path: Path) -> None:
    """With --reload, however many processes there are to be; also what is broken anew, and also from the start."""
    put(tmp_path, "def broken(:")
    options = ("--app", "shop_tasks:app", "--app-dir", str(tmp_path), "--reload", "--processes", "2")
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        async with serving(tmp_path) as live, started(live, *options, stderr=stderr) as process:
            await eventually(lambda: errors.read_text().count("reload.waiting") == 1, within_s=3 * LONG_S)
            # Longer than several more tries would take.
            await anyio.sleep(2)
            put(tmp_path, "import nothing_of_that_name")
            await eventually(lambda: errors.read_text().count("reload.waiting") == 2, within_s=3 * LONG_S)
            put(tmp_path, TASKS.format(executor="thread", mark="!"))
            await registered(live, 2)
            put(tmp_path, "def broken(:")
            await eventually(lambda: errors.read_text().count("reload.waiting") == 3, within_s=3 * LONG_S)
            process.send_signal(signal.SIGTERM)
            with fail_after(LONG_S):
                assert await process.wait() == 1

    found = [line for line in errors.read_text().splitlines() if line.startswith("Error:")]
    assert [("SyntaxError" in line, "nothing_of_that_name" in line) for line in found] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    assert "process.died" not in errors.read_text()


@posix_only
async def test_a_check_that_hangs_is_ended(tmp_path: Path) -> None:
    """With --reload: by the next change, and by whoever stops the client."""
    put(tmp_path, "import os, time; open('began', 'a').write('.'); time.sleep(600)")
    options = ("--app", "shop_tasks:app", "--app-dir", str(tmp_path), "--reload")
    async with serving(tmp_path) as live, started(live, *options, cwd=tmp_path) as process:
        began = tmp_path / "began"
        await eventually(lambda: began.exists() and began.read_text() == ".", within_s=3 * LONG_S)
        put(tmp_path, "import os, time; open('began', 'a').write('..'); time.sleep(600)")
        await eventually(lambda: began.read_text() == "...", within_s=3 * LONG_S)
        process.send_signal(signal.SIGTERM)
        with fail_after(LONG_S):
            assert await process.wait() == 0
