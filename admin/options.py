"""The options that all commands have, and the values that only operators give.

Knows no command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import click
from click.core import ParameterSource

from dtm.cli.options import (
    ADDRESS,
    Address,
    CredentialFiles,
    config_option,
    credential_options,
    setting,
    take_files,
)

from .place import Afar, Place

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

Output = Literal["table", "json"]

# The store's numbers have 64 bits.
_HIGHEST_ID = 2**63 - 1
_MOST_DIGITS = 19
# What is listed is held in memory, payloads and all.
_HIGHEST_LIMIT = 1_000_000

limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1, max=_HIGHEST_LIMIT),
    default=50,
    show_default=True,
    help="Show at most so many.",
)


class TaskId(click.ParamType[int]):
    """The number of a task."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Give the number of its digits."""
        text = str(value)
        # Python reads no more than 4,300 digits; no id has more than 19.
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= _HIGHEST_ID):
            self.fail(f"wanted the id of a task, a whole number from 0 up, found {text!a}", param, ctx)
        return int(text)


class SoughtText(click.ParamType[str]):
    """A text to look for: not empty, for that is a slip, and such as the store can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the text as it is."""
        text = str(value)
        if not text:
            self.fail("wanted a text to look for, found an empty one; leave the option out", param, ctx)
        if not _is_unicode(text):
            self.fail(f"wanted UTF-8 text, found {text!a}", param, ctx)
        return text


TASK_ID = TaskId()
SOUGHT_TEXT = SoughtText()


def file_options(command: _Decorated) -> _Decorated:
    """Add `--db`, `--output` and `--config` to a command."""
    database = setting(
        "--db", metavar="FILE", type=click.Path(path_type=Path), default="tasks.db", help="The database file."
    )
    output = setting(
        "-o",
        "--output",
        type=click.Choice(get_args(Output)),
        default="table",
        help="For people, or for programs.",
    )
    return config_option(database(output(command)))


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command say where the store is, also from afar, and how to print: `place` and `output`."""

    @wraps(command)
    def with_place(*, db: Path, server: Address | None, **values: Any) -> Any:
        place = _place(click.get_current_context(), db, server, take_files(values))
        return command(place=place, **values)

    server = setting("--server", type=ADDRESS, help="Speak with this server instead, as an operator from afar.")
    return file_options(server(credential_options(with_place)))


def local_options(command: _Decorated) -> _Decorated:
    """Add the options of a command that needs the files themselves; `--server` is refused with the reason."""
    return file_options(
        click.option("--server", hidden=True, expose_value=False, callback=_refuse_server)(command),
    )


def _refuse_server(_: click.Context, __: click.Parameter, server: str | None) -> None:
    if server is not None:
        raise click.UsageError(
            "wanted no --server, as this command works on the store's own files; run it on the server's machine"
        )


def log_option(command: _Decorated) -> _Decorated:
    """Add `--dead-letter-log`, under the name and default that the server has for it."""
    return setting(
        "--dead-letter-log",
        metavar="FILE",
        type=click.Path(path_type=Path),
        default="dead-letter-queue.log",
        help="The server's audit trail of dead letters.",
    )(command)


def _place(context: click.Context, db: Path, server: Address | None, files: CredentialFiles) -> Place:
    """Decide between the file and the server.

    Where `--server` does not stand on the command line, it may be meant for dtm-client: it counts only with a token,
    and not against a `--db` that does.
    """
    has_db, has_server = (
        context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("db", "server")
    )
    if has_server and has_db:
        raise click.UsageError("wanted --db or --server, found both; leave one of them out")
    if has_server and files.token_file is None:
        raise click.UsageError("wanted --token-file FILE with --server: the token of an operator (role admin)")
    if server is None or files.token_file is None or (has_db and not has_server):
        return db
    return Afar(server, files.read())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
