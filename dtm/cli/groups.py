"""A group of commands of which one runs when none is named.

Knows none of the commands.
"""

from __future__ import annotations

from typing import Any

import click


class DefaultGroup(click.Group):
    """A group that runs `default_command` unless the first word names a command or is the group's own option.

    `dtm-client --name x` is `dtm-client work --name x`. A first word that is neither an option nor a command
    is a mistake, and click says so.
    """

    def __init__(self, *arguments: Any, default_command: str, **attributes: Any) -> None:
        super().__init__(*arguments, **({"subcommand_metavar": "[COMMAND] [ARGS]..."} | attributes))
        self.default_command = default_command
        self.no_args_is_help = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front where no command is named."""
        if self._names_no_command(ctx, args):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, and say which one is the default."""
        super().format_commands(ctx, formatter)
        long_form = f"{ctx.command_path} {self.default_command}"
        formatter.write_paragraph()
        formatter.write_text(
            f"Without a command, {self.default_command!r} runs: '{ctx.command_path} [OPTIONS]' is"
            f" '{long_form} [OPTIONS]'. Its options: '{long_form} --help'."
        )

    def _names_no_command(self, ctx: click.Context, args: list[str]) -> bool:
        if not args:
            return not ctx.resilient_parsing  # the shell completes the name of a command here
        flag = args[0].partition("=")[0]
        own = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        return flag.startswith("-") and flag not in own
