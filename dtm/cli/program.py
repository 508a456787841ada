"""How a program begins and ends: its version, its errors, its exit code.

Knows no command: it runs the one it is given.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, TypeVar

import click

from dtm.core.errors import DtmError
from dtm.core.escapes import escaped

DISTRIBUTION = "durable-task-manager"
EXIT_FAILURE = 1
EXIT_USAGE = 2
_OUTPUT_FAILURES = (errno.ENOSPC, errno.EFBIG, errno.EIO)
# What a shell reports for a program that Ctrl-C ended: 128 + SIGINT.
EXIT_INTERRUPTED = 130

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)


def run_cli(
    command: click.Command,
    arguments: Sequence[str] | None = None,
    *,
    exit_codes: Mapping[type[DtmError], int] | None = None,
) -> int:
    """Run `command` and give its exit code; a `DtmError` becomes one line on standard error.

    The code is 0, or the integer that the command returned; 2 for wrong usage; 130 after Ctrl-C; for a
    `DtmError` what `exit_codes` says of its type or the nearest one above it, else 1. A reader that went away
    (`| head`) ends the program quietly. Any other exception is a defect of dtm and passes, traceback and all.
    """
    try:
        result = command.main(arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  a task group wraps even a Ctrl-C
        return _explain(error, exit_codes or {})
    return result if type(result) is int else 0


def leave(code: int) -> NoReturn:
    """End the program with an exit code, and wait for no thread of whoever's code has run in it.

    A task may have left some behind (`asyncio.to_thread`, a pool of its own), and Python would wait for those however
    long they take, although nobody waits for the task any more.
    """
    threads = set(threading.enumerate()) - {threading.current_thread()}
    if all(thread.daemon for thread in threads):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def version_option(command: _Decorated) -> _Decorated:
    """Add `--version`, which names the versions that a report of a defect needs."""
    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Show the versions of dtm, Python and SQLite, and exit.",
    )(command)


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"dtm {_version()} (Python {platform.python_version()}, SQLite {sqlite3.sqlite_version})")
        context.exit()


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"


def _explain(error: BaseException, exit_codes: Mapping[type[DtmError], int]) -> int:
    match _unwrapped(error):
        case click.ClickException() as refusal:
            _show(refusal)
            return refusal.exit_code
        case click.Abort() | KeyboardInterrupt():
            click.echo("Interrupted.", err=True)
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            _forget_stdout()
            return EXIT_FAILURE
        case OSError(errno=number) as failure if number in _OUTPUT_FAILURES:
            click.echo(f"Error: the output cannot be written ({failure.strerror})", err=True)
            _forget_stdout()
            return EXIT_FAILURE
        case DtmError() as refusal:
            click.echo(f"Error: {escaped(str(refusal))}", err=True)
            return next((exit_codes[kind] for kind in type(refusal).__mro__ if kind in exit_codes), EXIT_FAILURE)
        case _:
            raise error


def _show(refusal: click.ClickException) -> None:
    """Let click explain wrong usage, and escape what it quotes; its own lines stay lines."""
    shown = io.StringIO()
    refusal.show(shown)
    click.echo("\n".join(map(escaped, shown.getvalue().split("\n"))), nl=False, err=True)


def _unwrapped(error: BaseException) -> BaseException:
    """Take the one error out of its group; a task group wraps even a single one, and all who waited tell the same."""
    first, *others = _leaves(error)
    return first if all((type(other), str(other)) == (type(first), str(first)) for other in others) else error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _forget_stdout() -> None:
    """Let the interpreter flush into nothing when it ends, instead of complaining of the pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
