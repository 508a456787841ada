"""A setting: an option that the environment and a file can give too.

Knows no command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)


class Setting(click.Option):
    """An option that is looked for in four places: flag, then DTM_<NAME>, then the config file, then default.

    `--help` shows the variable and the default. Give the default as a person would type it (`"10s"`).
    """

    def __init__(self, param_decls: list[str], **attributes: Any) -> None:
        super().__init__(param_decls, **({"show_default": True, "show_envvar": True} | attributes))
        self.envvar = f"DTM_{setting_name(self).replace('-', '_').upper()}"


def setting(*names: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    """Add a `Setting` to a command; takes what `click.option` takes."""
    return click.option(*names, cls=Setting, **attributes)


def setting_name(option: click.Option) -> str:
    """Give the name under which people know `option`: its long flag without dashes, such as `log-level`."""
    return max(option.opts, key=len).lstrip("-")
