"""`--config FILE`: settings from a TOML file, each key the name of an option.

Knows no command: it asks the one that runs which options it has.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from dtm.cli.setting import Setting, setting, setting_name
from dtm.cli.values import DURATION, SIZE

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

# What TOML calls the Python types that tomllib makes.
_TOML_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "a table",
    datetime: "a date and time",
    date: "a date",
    time: "a time",
}


def config_option(command: _Decorated) -> _Decorated:
    """Add `--config FILE` to a command. What the file sets, flags and environment variables override.

    The file may name every `Setting` of that one command, with dashes or underscores, and nothing else.
    """
    return setting(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        is_eager=True,  # the other options need what it holds
        expose_value=False,
        callback=_load,
        help="Read settings from this TOML file; its keys are the names of the options below.",
    )(command)


def _load(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None or context.resilient_parsing:
        return
    options = _settings(context.command)
    values: dict[str, Any] = {}
    for key, value in _read(context, path).items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            _refuse(context, path, f"{key!r} is no setting of {context.command_path!r}{_hint(key, options)}")
        if option.name in values:
            _refuse(context, path, f"{key!r} is there twice, with a dash and with an underscore; keep one")
        _check(context, path, key, value, option)
        values[option.name] = value
    context.default_map = {**(context.default_map or {}), **values}


def _settings(command: click.Command) -> dict[str, Setting]:
    return {
        setting_name(option): option for option in command.params if isinstance(option, Setting) and option.expose_value
    }


def _read(context: click.Context, path: Path) -> dict[str, Any]:
    try:
        # Notepad puts a byte order mark at the start; TOML knows none.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        _refuse(context, path, f"it cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        _refuse(context, path, f"wanted UTF-8 text, found other bytes: {error}")
    except (ValueError, RecursionError) as error:
        _refuse(context, path, f"wanted TOML, found something else: {error}")


def _check(context: click.Context, path: Path, key: str, value: Any, option: Setting) -> None:
    """Refuse here what the option would refuse later, without a word of the file."""
    misfit = _misfit(option, value)
    if misfit is not None:
        _refuse(context, path, f"{key!r}: {misfit}")
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        _refuse(context, path, f"{key!r}: {error.message}")


def _misfit(option: Setting, value: Any) -> str | None:
    """Say that `value` has another type than `option`, where it has."""
    if not (option.multiple or option.nargs != 1):
        return _type_misfit([value], _wanted(option))
    return _type_misfit([value], (list,)) or _type_misfit(value, _wanted(option))


def _type_misfit(values: Sequence[Any], wanted: tuple[type, ...]) -> str | None:
    for value in values:
        # The exact type: to isinstance, True is an integer.
        if type(value) not in wanted:
            names = " or ".join(_TOML_NAMES[kind] for kind in wanted)
            return f"wanted {names}, found {_TOML_NAMES[type(value)]}"
    return None


def _wanted(option: Setting) -> tuple[type, ...]:
    if option.is_bool_flag:
        return (bool,)
    if isinstance(option.type, type(click.INT)):
        return (int,)
    if isinstance(option.type, type(click.FLOAT)):
        return (int, float)
    if isinstance(option.type, type(DURATION)):
        return (str, int, float)
    if isinstance(option.type, type(SIZE)):
        return (str, int)
    return (str,)


def _hint(key: str, options: Mapping[str, Setting]) -> str:
    close = get_close_matches(key.replace("_", "-"), options, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; its settings are: {', '.join(sorted(options)) or 'none'}"


def _refuse(context: click.Context, path: Path, complaint: str) -> NoReturn:
    raise click.UsageError(f"config file {click.format_filename(path)}: {complaint}", context)
