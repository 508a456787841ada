"""The default command: it runs when no command is named, and only then."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from dtm.cli.groups import DefaultGroup
from dtm.cli.program import version_option


@click.group(cls=DefaultGroup, default_command="work")
@version_option
@click.option("--profile", default="")
def client(profile: str) -> None:
    """Run tasks and submit them."""
    click.echo(profile, nl=False)


@client.command()
@click.option("--name", "-n", default="nobody")
def work(name: str) -> None:
    """Run tasks."""
    click.echo(f"work {name}")


@client.command()
@click.argument("kind")
def submit(kind: str) -> None:
    """Submit a task."""
    click.echo(f"submit {kind}")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], "work nobody\n"),
        (["--name", "x"], "work x\n"),
        (["--name=x"], "work x\n"),
        (["-n", "x"], "work x\n"),
        (["--name", "submit"], "work submit\n"),
        (["work"], "work nobody\n"),
        (["work", "--name", "x"], "work x\n"),
        (["submit", "A"], "submit A\n"),
        (["--profile=my ", "submit", "A"], "my submit A\n"),
        (["--profile", "my ", "submit", "A"], "my submit A\n"),
    ],
)
def test_the_default_command_runs_where_none_is_named(arguments: list[str], output: str) -> None:
    """An option in front belongs to the default command; a named command runs as ever."""
    assert CliRunner().invoke(client, arguments).output == output


def test_help_lists_the_commands_and_the_default() -> None:
    """`--help` belongs to the group."""
    output = CliRunner().invoke(client, ["--help"], prog_name="dtm-client").output

    assert output.startswith("Usage: dtm-client [OPTIONS] [COMMAND] [ARGS]...\n\n  Run tasks and submit them.\n")
    assert "  submit  Submit a task.\n  work    Run tasks.\n" in output
    assert "Without a command, 'work' runs: 'dtm-client [OPTIONS]' is 'dtm-client work" in output


def test_version_belongs_to_the_group() -> None:
    """As every option of the group does."""
    assert CliRunner().invoke(client, ["--version"]).output.startswith("dtm ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["wrok"], "No such command 'wrok'. Did you mean 'work'?"),
        (["zzz"], "No such command 'zzz'."),
        (["--nam", "x"], "No such option '--nam'. Did you mean '--name'?"),
        (["--name"], "Option '--name' requires an argument."),
        (["--name", "x", "submit"], "Got unexpected extra argument (submit)"),
    ],
)
def test_a_mistake_is_answered_as_ever(arguments: list[str], complaint: str) -> None:
    """A mistyped command does not become an argument of the default one."""
    result = CliRunner().invoke(client, arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr


def test_the_shell_completes_commands_and_options() -> None:
    """Without a word the names of the commands; after an option, the default command's options."""

    def completed(*words: str) -> str:
        env = {"_DTM_CLIENT_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words)}
        env["COMP_CWORD"] = str(len(words) - 1 if not words[-1].endswith(" ") else len(words))
        return CliRunner().invoke(client, [], prog_name="dtm-client", env=env).output

    assert completed("dtm-client ") == "plain,submit\nplain,work\n"
    assert completed("dtm-client", "-n", "x", "--") == "plain,--help\n"
