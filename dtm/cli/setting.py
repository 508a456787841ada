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

    `--help` shows the variable and the default. Give the default as a person would type it (`"10s"`). In a
    `SectionedCommand` it stands below the heading `section`.
    """

    def __init__(self, param_decls: list[str], *, section: str = "Options", **attributes: Any) -> None:
        super().__init__(param_decls, **({"show_default": True, "show_envvar": True} | attributes))
        self.section = section
        self.envvar = f"DTM_{setting_name(self).replace('-', '_').upper()}"


class SectionedCommand(click.Command):
    """A command with so many options that its help needs headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section, the sections in the order of their first option."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", "Options"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def setting(*names: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    """Add a `Setting` to a command; takes what `click.option` takes."""
    return click.option(*names, cls=Setting, **attributes)


def setting_name(option: click.Option) -> str:
    """Give the name under which people know `option`: its long flag without dashes, such as `log-level`."""
    return max(option.opts, key=len).lstrip("-")
