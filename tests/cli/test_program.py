"""How a program ends: which words, which stream, which code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Any

import click
import pytest

from dtm.cli.program import run_cli, version_option
from dtm.core.errors import DtmError

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")


class NoServer(DtmError):
    """The server does not answer."""


class NoRoute(NoServer):
    """Not even the machine does."""


def ending_with(ending: Any) -> click.Command:
    """Make a command that raises or returns `ending`."""

    @click.command()
    @version_option
    def command() -> Any:
        click.echo("out")
        if isinstance(ending, BaseException):
            raise ending
        return ending

    return command


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3), (True, 0), ("text", 0)])
def test_what_a_command_returns_is_its_exit_code(result: object, code: int) -> None:
    """If it is an integer; anything else is success."""
    assert run_cli(ending_with(result), []) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoServer("wanted a server at h:1, found none; start dtm-server"), 3),
        (NoRoute("wanted a server at h:1, found none; start dtm-server"), 3),
        (DtmError("wanted a server at h:1, found none; start dtm-server"), 1),
    ],
)
def test_an_error_of_dtm_is_one_line_and_a_fixed_code(
    capsys: pytest.CaptureFixture[str], error: DtmError, code: int
) -> None:
    """On standard error, without traceback; the code of the nearest type that has one."""
    found = run_cli(ending_with(error), [], exit_codes={NoServer: 3})

    assert found == code
    assert capsys.readouterr() == (
        "out\n",
        "Error: wanted a server at h:1, found none; start dtm-server\n",
    )


def test_the_nearest_type_decides_the_code() -> None:
    """A subclass may have a code of its own."""
    assert run_cli(ending_with(NoRoute("x")), [], exit_codes={DtmError: 9, NoServer: 3, NoRoute: 4}) == 4
    assert run_cli(ending_with(NoServer("x")), [], exit_codes={DtmError: 9, NoRoute: 4}) == 9


def test_a_task_group_does_not_hide_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One error inside groups is that error."""
    wrapped = ExceptionGroup("unhandled", [ExceptionGroup("unhandled", [NoServer("gone")])])

    assert run_cli(ending_with(wrapped), [], exit_codes={NoServer: 3}) == 3
    assert capsys.readouterr().err == "Error: gone\n"
    interrupted = BaseExceptionGroup("unhandled", [KeyboardInterrupt()])
    assert run_cli(ending_with(interrupted), []) == 130


@pytest.mark.parametrize(
    "defect",
    [ZeroDivisionError(), OSError("disk"), ExceptionGroup("two", [NoServer("a"), NoServer("b")]), SystemExit(7)],
    ids=lambda error: type(error).__name__,
)
def test_a_defect_passes_as_it_is(defect: BaseException) -> None:
    """Its traceback is what a report needs."""
    with pytest.raises(type(defect)) as passed:
        run_cli(ending_with(defect), [])

    assert passed.value is defect


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Click's own message, on standard error."""
    assert run_cli(ending_with(None), ["--nope"]) == 2
    assert "Error: No such option '--nope'." in capsys.readouterr().err


def test_a_click_error_keeps_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """As click shows it."""
    assert run_cli(ending_with(click.ClickException("no")), []) == 1
    assert capsys.readouterr().err == "Error: no\n"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str], interrupt: BaseException) -> None:
    """As a shell expects it, without traceback; at a prompt too."""
    assert run_cli(ending_with(interrupt), []) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_help_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Help that was asked for is success, on standard output."""
    assert run_cli(ending_with(None), ["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage:")


def test_version_names_dtm_python_and_sqlite(capsys: pytest.CaptureFixture[str]) -> None:
    """What a report of a defect must contain, on one line."""
    assert run_cli(ending_with(None), ["--version"]) == 0
    pattern = r"dtm (\d+\.\d+\S*|\(not installed\)) \(Python 3\.\d+\S+, SQLite 3\.\d+\.\d+\)\n"
    assert re.fullmatch(pattern, capsys.readouterr().out)


PROGRAM = """
import sys, click
from dtm.cli.program import run_cli

@click.command()
@click.argument("lines", type=int)
def command(lines):
    for number in range(lines):
        print(number)
    if not lines:
        print("ready", flush=True)
        sys.stdin.read()

sys.exit(run_cli(command))
"""


def start(lines: int) -> subprocess.Popen[bytes]:
    """Start a real program that prints so many lines; with none it waits."""
    # Unbuffered output would never be left over for the last flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@posix_only
@pytest.mark.parametrize("lines", [1, 1_000_000], ids=["at the end", "in the middle"])
def test_a_reader_that_went_away_ends_the_program_quietly(lines: int) -> None:
    """`dtm-admin list | head` leaves no traceback, whether the pipe breaks early or at the last flush."""
    with start(lines) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.wait(timeout=30) == 1
        assert program.stderr is not None
        assert program.stderr.read() == b""


@posix_only
def test_a_real_ctrl_c_ends_with_130() -> None:
    """SIGINT while the command waits."""
    with start(0) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)

    assert program.returncode == 130
    assert errors.strip() == b"Interrupted."


@pytest.mark.parametrize(("thread", "is_daemon"), [("left over", False), ("of ours", True)])
def test_leaving_waits_for_no_thread(thread: str, *, is_daemon: bool) -> None:
    """A task may have left one behind that never ends; what was written is written, and the code is the code."""
    program = (
        "import sys, threading, time; from dtm.cli.program import leave;"
        f"threading.Thread(target=time.sleep, args=(600,), name={thread!r}, daemon={is_daemon}).start();"
        "sys.stdout.write('out'); leave(3)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"out", b"")
